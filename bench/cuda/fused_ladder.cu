// The products of a block at full size together with what follows them: the picture's and the text's in one launch of
// our own, beside cuBLASLt and the passes that the engine has for them.
//
// Reference: the passes' results. Versions: cuBLASLt alone for the picture; cuBLASLt and the passes for both; our own
// for the picture; our own for both.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "cuda/cublas.h"
#include "ladder.h"
#include "rounding.cuh"

namespace {

using namespace ladder;
using inkstone::DType;
namespace cuda = inkstone::cuda;

constexpr size_t kBeyondCache = size_t{192} << 20;  // three times an H200's L2
constexpr int kText = 64, kHeads = 24, kHeadWidth = 128;
constexpr float kEps = 1e-6f;

enum class Kind { qkv, out, up, down };
struct Shape {
  const char* name;
  Kind kind;
  int depth, outs;
};

template <class T>
void draw(const Buffer<T>& to, uint64_t seed, float factor) {
  upload(to, drawn(to.bytes() / sizeof(T), seed, factor));
}

/// One stream's half of a layer.
struct Part {
  Part(const Shape& s, int n, uint64_t seed)
      : shape(s),
        rows(n),
        copies(static_cast<int>(kBeyondCache / weight_count()) + 1),
        x(size_t(n) * s.depth),
        w(weight_count() * copies),
        bias(s.outs),
        product(size_t(n) * s.outs),
        ours(size_t(n) * s.outs),
        x_codes(size_t(n) * s.depth),
        w_codes(weight_count() * copies),
        codes(size_t(n) * s.outs),
        our_codes(size_t(n) * s.outs),
        x_scales(n),
        w_scales(s.outs),
        scales(n),
        our_scales(n),
        gate(s.outs),
        norm(kHeadWidth),
        angles(size_t(n) * kHeadWidth),
        residual(size_t(n) * s.outs),
        finished(size_t(n) * s.outs),
        our_finished(size_t(n) * s.outs) {
    draw(x, seed + 1, 1);
    const Buffer<__nv_bfloat16> one(weight_count());
    draw(one, seed + 2, 1 / std::sqrt(static_cast<float>(s.depth)));
    for (int i = 0; i < copies; ++i)
      must(cudaMemcpy(w.data() + weight_count() * i, one.data(), one.bytes(), cudaMemcpyDefault), "copying weights");
    draw(bias, seed + 3, 0.5f);
    draw(gate, seed + 4, 1);
    draw(norm, seed + 5, 1);
    draw(angles, seed + 6, 1);
    if (s.kind == Kind::out || s.kind == Kind::down) draw(residual, seed + 7, 1);
    cuda::round_rows({x_codes.data(), x_scales.data()}, {x.data(), DType::bf16}, inkstone::Activation::none, rows,
                     s.depth, nullptr);
    cuda::round_rows({w_codes.data(), w_scales.data()}, {w.data(), DType::bf16}, inkstone::Activation::none, s.outs,
                     s.depth, nullptr);
    for (int i = 1; i < copies; ++i)
      must(cudaMemcpy(w_codes.data() + weight_count() * i, w_codes.data(), weight_count(), cudaMemcpyDefault),
           "copying codes");
    cuda::bound_product(bound.data(), {w_codes.data(), w_scales.data()}, bias.data(), s.outs, s.depth, nullptr);
    const int32_t begin[] = {0, n};
    must(cudaMemcpy(begins.data(), begin, sizeof(begin), cudaMemcpyDefault), "copying");
    must(cudaMemset(zero.data(), 0, zero.bytes()), "clearing");
    const int32_t first = n == kText ? 0 : kText;
    must(cudaMemcpy(shift.data(), &first, sizeof(first), cudaMemcpyDefault), "copying");
  }

  size_t weight_count() const { return size_t(shape.outs) * shape.depth; }
  cuda::SequenceStarts starts() const { return {begins.data(), 1}; }
  cuda::RowVectors gate_vectors() const { return {{gate.data(), DType::f32}, zero.data(), 0, starts()}; }
  cuda::JoinPart join(const void* qkv) const {
    return {.rows = rows,
            .qkv = {qkv, DType::bf16},
            .q_norm = norm.data(),
            .k_norm = norm.data(),
            .cos_sin = angles.data(),
            .halves = false,
            .sequences = starts(),
            .shift = shift.data()};
  }

  inkstone::Product by_library(DType type, int round) const {
    const bool fp8 = type == DType::f8_e4m3;
    const size_t at = weight_count() * (round % copies);
    return {.type = type,
            .rows = rows,
            .outs = shape.outs,
            .depth = shape.depth,
            .x = {fp8 ? static_cast<const void*>(x_codes.data()) : x.data(), shape.depth, 0, x_scales.data()},
            .w = {fp8 ? static_cast<const void*>(w_codes.data() + at) : w.data() + at, shape.depth, 0, w_scales.data()},
            .d = {product.data(), DType::bf16},
            .d_stride = shape.outs,
            .bias = bias.data(),
            .gelu = shape.kind == Kind::up};
  }

  /// As the engine does it, without join_qkv.
  void by_passes(inkstone::Cublas& library, DType type, int round, void* workspace) const {
    const inkstone::Product p = by_library(type, round);
    const bool fp8 = type == DType::f8_e4m3, gated = shape.kind == Kind::out || shape.kind == Kind::down;
    library.multiply(p, nullptr, workspace);
    if (gated)
      cuda::finish({.out = {finished.data(), DType::f32},
                    .x = {product.data(), DType::bf16},
                    .gate = gate_vectors(),
                    .residual = {residual.data(), DType::f32}},
                   rows, shape.outs, nullptr);
    if (fp8 && shape.kind == Kind::up)
      cuda::round_rows({codes.data(), scales.data()}, {product.data(), DType::bf16}, inkstone::Activation::none, rows,
                       shape.outs, nullptr);
  }

  cuda::FusedProduct fused(DType type, int round, bool plain) const {
    const bool fp8 = type == DType::f8_e4m3;
    const inkstone::Product p = by_library(type, round);
    cuda::FusedProduct f = {};
    f.type = type;
    f.rows = rows;
    f.outs = shape.outs;
    f.depth = shape.depth;
    f.x = p.x.data;
    f.w = p.w.data;
    f.x_scales = x_scales.data();
    f.w_scales = w_scales.data();
    f.bias = bias.data();
    f.activation = p.gelu ? inkstone::Activation::gelu_tanh : inkstone::Activation::none;
    f.out = {ours.data(), DType::bf16};
    if (plain) return f;
    if (shape.kind == Kind::up && fp8) {
      f.rounded = {our_codes.data(), our_scales.data()};
      f.bound = bound.data();
    } else if (shape.kind == Kind::qkv) {
      f.join = join(nullptr);
    } else if (shape.kind != Kind::up) {
      f.out = {our_finished.data(), DType::f32};
      f.gate = gate_vectors();
      f.residual = {residual.data(), DType::f32};
    }
    return f;
  }

  Shape shape;
  int rows, copies;
  Buffer<__nv_bfloat16> x, w, bias, product, ours;
  Buffer<uint8_t> x_codes, w_codes, codes, our_codes;
  Buffer<float> x_scales, w_scales, scales, our_scales, gate, norm, angles, residual, finished, our_finished;
  Buffer<float> bound{2};
  Buffer<int32_t> begins{2}, zero{1}, shift{1};
};

/// ‖ours - theirs‖ / ‖theirs‖, of rows times scales.
template <class T, class U>
double difference(const Buffer<T>& ours, const Buffer<U>& theirs, int rows, const std::vector<float>& our_scales = {},
                  const std::vector<float>& scales = {}) {
  const std::vector<T> a = ours.host();
  const std::vector<U> b = theirs.host();
  const size_t width = a.size() / static_cast<size_t>(rows);
  RelativeError error;
  for (size_t i = 0; i < a.size(); ++i)
    error.add(value(a[i]) * (our_scales.empty() ? 1 : double{our_scales[i / width]}),
              value(b[i]) * (scales.empty() ? 1 : double{scales[i / width]}));
  return error.value();
}

void measure(inkstone::Cublas& library, const Shape& shape, DType type, int n, void* workspace) {
  Part picture(shape, n, 10), text(shape, kText, 20);
  const size_t all = size_t(n + kText) * kHeads * kHeadWidth;
  const bool qkv = shape.kind == Kind::qkv, fp8 = type == DType::f8_e4m3;
  Buffer<__nv_bfloat16> theirs(qkv ? 3 * all : 8), ours(qkv ? 3 * all : 8);
  const auto joined = [&](const Buffer<__nv_bfloat16>& to) -> cuda::Joined {
    return {.q = {to.data(), DType::bf16},
            .k = {to.data() + (qkv ? all : 0), DType::bf16},
            .v = {to.data() + (qkv ? 2 * all : 0), DType::bf16},
            .heads = kHeads,
            .kv_heads = kHeads,
            .width = kHeadWidth,
            .eps = kEps};
  };
  const auto by_passes = [&](int round) {
    text.by_passes(library, type, round, workspace);
    picture.by_passes(library, type, round, workspace);
    if (!qkv) return;
    const cuda::JoinPart parts[] = {picture.join(picture.product.data()), text.join(text.product.data())};
    cuda::join_qkv(joined(theirs), parts, 2, nullptr);
  };
  const auto fused = [&](int round, bool plain, int count) {
    const cuda::FusedProduct parts[] = {picture.fused(type, round, plain), text.fused(type, round, plain)};
    cuda::fused_products(parts, count, joined(ours), nullptr);
  };
  std::printf("\n%s, %s, %d rows and %d, %d -> %d\n", fp8 ? "fp8" : "bf16", shape.name, n, kText, shape.depth,
              shape.outs);
  const double flop = 2.0 * n * shape.depth * shape.outs;
  print_times(flop,
              {{"cuBLASLt, picture", [&](int r) { library.multiply(picture.by_library(type, r), nullptr, workspace); }},
               {"cuBLASLt and passes, both", by_passes},
               {"ours, plain, picture", [&](int r) { fused(r, true, 1); }},
               {"ours, picture", [&](int r) { fused(r, false, 1); }},
               {"ours, both", [&](int r) { fused(r, false, 2); }}});
  for (const Buffer<__nv_bfloat16>* b : {&theirs, &ours, &picture.ours, &picture.product, &text.ours, &text.product})
    must(cudaMemset(b->data(), 0xff, b->bytes()), "poisoning");
  for (const Part* p : {&picture, &text}) {
    for (const Buffer<uint8_t>* b : {&p->codes, &p->our_codes})
      must(cudaMemset(b->data(), 0xff, b->bytes()), "poisoning");
    for (const Buffer<float>* b : {&p->scales, &p->our_scales, &p->finished, &p->our_finished})
      must(cudaMemset(b->data(), 0xff, b->bytes()), "poisoning");
  }
  by_passes(0);
  fused(0, true, 2);
  must(cudaDeviceSynchronize(), "running");
  library.multiply(picture.by_library(type, 0), nullptr, workspace);  // gating inside leaves none
  print_error("plain, picture", difference(picture.ours, picture.product, n), 5e-3);
  fused(0, false, 2);
  must(cudaDeviceSynchronize(), "running");
  if (qkv) print_error("q, k, v", difference(ours, theirs, 1), 5e-3);
  for (const Part* p : {&picture, &text}) {
    if (shape.kind == Kind::up && fp8) {
      const std::vector<float> scales = p->scales.host(), own = p->our_scales.host();
      print_error("codes against bf16: passes", difference(p->codes, p->product, p->rows, scales), 4e-2);
      print_error("codes against bf16: ours", difference(p->our_codes, p->product, p->rows, own), 4e-2);
      double loose = 0;
      for (size_t i = 0; i < own.size(); ++i) loose = std::max(loose, double{own[i] / scales[i]});
      std::printf("  the loosest bound %.1f\n", loose);
    } else if (!qkv && shape.kind != Kind::up) {
      print_error("gated", difference(p->our_finished, p->finished, p->rows), 5e-3);
    } else if (shape.kind == Kind::up) {
      print_error("gelu", difference(p->ours, p->product, p->rows), 5e-3);
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  print_head();
  inkstone::Cublas library;
  const Buffer<uint8_t> workspace(inkstone::Cublas::kWorkspaceBytes);
  const Shape shapes[] = {{"q, k, v", Kind::qkv, 3072, 9216},
                          {"out", Kind::out, 3072, 3072},
                          {"up", Kind::up, 3072, 12288},
                          {"down", Kind::down, 12288, 3072}};
  std::vector<int> all_rows;
  for (int i = 1; i < argc; ++i) all_rows.push_back(std::atoi(argv[i]));
  if (all_rows.empty()) all_rows = {1024, 4096, 6889};  // pictures of 512, 1024 and 1328 pixels a side
  for (const int rows : all_rows)
    for (const DType type : {DType::f8_e4m3, DType::bf16})
      for (const Shape& shape : shapes) measure(library, shape, type, rows, workspace.data());
}
