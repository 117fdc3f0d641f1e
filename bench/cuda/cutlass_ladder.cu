// A block's two largest products by CUTLASS, with what follows them as its epilogue, beside cuBLASLt and our own
// kernel.
//
// Reference: what cuBLASLt and a pass give. Versions: CUTLASS's tiles and their orders (cutlass_products.cuh).
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "cuda/cublas.h"
#include "cutlass_products.h"
#include "ladder.h"
#include "rounding.cuh"

namespace {

using namespace ladder;
using inkstone::DType;
namespace cuda = inkstone::cuda;

constexpr size_t kBeyondCache = size_t{192} << 20;  // three times an H200's L2
constexpr double kMostError = 5e-3;

/// ‖x - y‖ / ‖y‖; not a number if one is none.
template <class T>
double difference(const std::vector<T>& x, const std::vector<T>& y) {
  RelativeError error;
  for (size_t i = 0; i < x.size(); ++i) error.add(double{static_cast<float>(x[i])}, double{static_cast<float>(y[i])});
  return error.value();
}

/// The picture's half of a layer: up with GELU, or down with gate and residual.
class Layer {
 public:
  Layer(DType type, bool gated, int n)
      : type_(type),
        gated_(gated),
        rows_(n),
        depth_(gated ? kWide : kNarrow),
        outs_(gated ? kNarrow : kWide),
        copies_(static_cast<int>(kBeyondCache / weight_count()) + 1),
        x_(size_t(n) * depth_),
        w_(weight_count() * copies_),
        bias_(outs_),
        narrow_(size_t(n) * outs_),
        x_codes_(size_t(n) * depth_),
        w_codes_(weight_count() * copies_),
        codes_(size_t(n) * outs_),
        x_scales_(n),
        w_scales_(outs_),
        scales_(n),
        gate_(outs_),
        residual_(size_t(n) * outs_),
        wide_(size_t(n) * outs_) {
    upload(x_, drawn(size_t(n) * depth_, 1, 1));
    upload(bias_, drawn(outs_, 2, 0.5f));
    upload(gate_, drawn(outs_, 3, 1));
    upload(residual_, drawn(size_t(n) * outs_, 4, 1));
    const Buffer<__nv_bfloat16> one(weight_count());
    upload(one, drawn(weight_count(), 5, 1 / std::sqrt(static_cast<float>(depth_))));
    const Buffer<uint8_t> one_rounded(weight_count());
    cuda::round_rows({x_codes_.data(), x_scales_.data()}, {x_.data(), DType::bf16}, inkstone::Activation::none, n,
                     depth_, nullptr);
    cuda::round_rows({one_rounded.data(), w_scales_.data()}, {one.data(), DType::bf16}, inkstone::Activation::none,
                     outs_, depth_, nullptr);
    for (int i = 0; i < copies_; ++i) {
      must(cudaMemcpy(w_.data() + weight_count() * i, one.data(), one.bytes(), cudaMemcpyDefault), "copying weights");
      must(cudaMemcpy(w_codes_.data() + weight_count() * i, one_rounded.data(), weight_count(), cudaMemcpyDefault),
           "copying codes");
    }
    cuda::bound_product(bound_.data(), {w_codes_.data(), w_scales_.data()}, bias_.data(), outs_, depth_, nullptr);
    const int32_t begin[] = {0, n};
    must(cudaMemcpy(begins_.data(), begin, sizeof(begin), cudaMemcpyDefault), "copying");
    must(cudaMemset(zero_.data(), 0, zero_.bytes()), "clearing");
  }

  void measure(inkstone::Cublas& library, void* workspace) {
    std::printf("\n%s, %s, %d rows, %d -> %d\n", fp8() ? "fp8" : "bf16", gated_ ? "down" : "up", rows_, depth_, outs_);
    std::vector<Step> steps = {
        {"cuBLASLt", [&](int round) { library.multiply(by_library(round), nullptr, workspace); }}};
    if (gated_) steps.push_back({"cuBLASLt and a pass", [&](int round) { by_passes(library, round, workspace); }});
    steps.push_back({"ours", [&](int round) { ours(round, false); }});
    const size_t first = steps.size();
    for (Step& step : fp8() ? cutlass_fp8(operands()) : cutlass_bf16(operands())) steps.push_back(std::move(step));
    const size_t end = steps.size();
    if (!gated_ && fp8()) {
      steps.push_back({"cuBLASLt, then rounded", [&](int round) { by_passes(library, round, workspace); }});
      steps.push_back({"ours, rounded", [&](int round) { ours(round, true); }});
    }
    print_times(2.0 * rows_ * depth_ * outs_, steps);
    steps.erase(steps.begin() + static_cast<std::ptrdiff_t>(end), steps.end());
    steps.erase(steps.begin(), steps.begin() + static_cast<std::ptrdiff_t>(first - 1));
    by_passes(library, 0, workspace);
    gated_ ? check(steps, wide_) : check(steps, narrow_);
  }

 private:
  static constexpr int kNarrow = 3072, kWide = 12288;

  bool fp8() const { return type_ == DType::f8_e4m3; }
  size_t weight_count() const { return size_t(outs_) * depth_; }
  const void* weights(int round) const {
    const size_t at = weight_count() * (round % copies_);
    return fp8() ? static_cast<const void*>(w_codes_.data() + at) : w_.data() + at;
  }
  const void* input() const { return fp8() ? static_cast<const void*>(x_codes_.data()) : x_.data(); }
  cuda::RowVectors gates() const { return {{gate_.data(), DType::f32}, zero_.data(), 0, {begins_.data(), 1}}; }

  CutlassOperands operands() const {
    CutlassOperands o;
    o.rows = rows_;
    o.outs = outs_;
    o.depth = depth_;
    o.x = input();
    for (int i = 0; i < copies_; ++i) o.weights.push_back(weights(i));
    o.x_scales = x_scales_.data();
    o.w_scales = w_scales_.data();
    o.bias = bias_.data();
    o.gate = gated_ ? gate_.data() : nullptr;
    o.residual = residual_.data();
    o.out = gated_ ? static_cast<void*>(wide_.data()) : narrow_.data();
    return o;
  }

  inkstone::Product by_library(int round) const {
    inkstone::Product p;
    p.type = type_;
    p.rows = rows_;
    p.outs = outs_;
    p.depth = depth_;
    p.x = {input(), depth_, 0, x_scales_.data()};
    p.w = {weights(round), depth_, 0, w_scales_.data()};
    p.d = {narrow_.data(), DType::bf16};
    p.d_stride = outs_;
    p.bias = bias_.data();
    p.gelu = !gated_;
    return p;
  }

  void by_passes(inkstone::Cublas& library, int round, void* workspace) const {
    library.multiply(by_library(round), nullptr, workspace);
    if (gated_)
      cuda::finish({.out = {wide_.data(), DType::f32},
                    .x = {narrow_.data(), DType::bf16},
                    .gate = gates(),
                    .residual = {residual_.data(), DType::f32}},
                   rows_, outs_, nullptr);
    else if (fp8())
      cuda::round_rows({codes_.data(), scales_.data()}, {narrow_.data(), DType::bf16}, inkstone::Activation::none,
                       rows_, outs_, nullptr);
  }

  void ours(int round, bool rounded) const {
    cuda::FusedProduct f = {};
    f.type = type_;
    f.rows = rows_;
    f.outs = outs_;
    f.depth = depth_;
    f.x = input();
    f.w = weights(round);
    f.x_scales = x_scales_.data();
    f.w_scales = w_scales_.data();
    f.bias = bias_.data();
    f.activation = gated_ ? inkstone::Activation::none : inkstone::Activation::gelu_tanh;
    f.out = {narrow_.data(), DType::bf16};
    if (rounded) {
      f.rounded = {codes_.data(), scales_.data()};
      f.bound = bound_.data();
    }
    if (gated_) {
      f.out = {wide_.data(), DType::f32};
      f.gate = gates();
      f.residual = {residual_.data(), DType::f32};
    }
    cuda::fused_products(&f, 1, {}, nullptr);
  }

  /// `result` holds what is right.
  template <class T>
  static void check(const std::vector<Step>& steps, Buffer<T>& result) {
    const std::vector<T> reference = result.host();
    for (const Step& step : steps) {
      result.poison();
      step.work(0);
      print_error(step.name, difference(result.host(), reference), kMostError);
    }
  }

  DType type_;
  bool gated_;
  int rows_, depth_, outs_, copies_;
  Buffer<__nv_bfloat16> x_, w_, bias_, narrow_;
  Buffer<uint8_t> x_codes_, w_codes_, codes_;
  Buffer<float> x_scales_, w_scales_, scales_, gate_, residual_, wide_;
  Buffer<float> bound_{2};
  Buffer<int32_t> begins_{2}, zero_{1};
};

}  // namespace

int main(int argc, char** argv) {
  print_head();
  inkstone::Cublas library;
  const Buffer<uint8_t> workspace(inkstone::Cublas::kWorkspaceBytes);
  std::vector<int> all_rows;
  for (int i = 1; i < argc; ++i) all_rows.push_back(std::atoi(argv[i]));
  if (all_rows.empty()) all_rows = {1024, 4096};  // pictures of 512 and 1024 pixels a side
  for (const int rows : all_rows)
    for (const DType type : {DType::bf16, DType::f8_e4m3})
      for (const bool gated : {false, true}) Layer(type, gated, rows).measure(library, workspace.data());
}
