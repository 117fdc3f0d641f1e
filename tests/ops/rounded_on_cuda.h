// The cuda device with 8-bit products next to the definitions of the ops, E4M3 as plain loops, and what both
// arithmetics promise.
#pragma once
#include <deque>

#include "model/block_source.h"
#include "ops/device_under_test.h"
#include "why_no_fp8.h"

namespace inkstone {

/// The nearest number of E4M3, ties to even.
inline float nearest_e4m3(float x) {
  constexpr int kLeastExponent = -6, kBits = 3;
  constexpr float kMost = 448;
  if (x == 0 || std::isnan(x)) return x;
  const int exponent = std::max(std::ilogb(x), kLeastExponent) - kBits;
  return std::clamp(std::ldexp(std::nearbyint(std::ldexp(x, -exponent)), exponent), -kMost, kMost);
}

/// Rows rounded to codes times a scale, which makes the greatest of each 448.
inline Tensor as_rounded(const Tensor& x) {
  const Tensor rounded = host_tensor(x.shape(), DType::f32);
  for (int64_t row = 0; row < x.dim(0); ++row) {
    const auto numbers =
        x.span<const float>().subspan(static_cast<size_t>(row * x.dim(1)), static_cast<size_t>(x.dim(1)));
    float most = 1e-30f;
    for (const float v : numbers) most = std::max(most, std::abs(v));
    const float scale = most / 448;
    std::ranges::transform(numbers, rounded.data<float>() + row * x.dim(1),
                           [scale](float v) { return scale * nearest_e4m3(v / scale); });
  }
  return rounded;
}

/// Every number of a weight on the host.
inline Tensor dense(const Weight& w) {
  Tensor all = host_tensor({w.out, w.in}, DType::f32);
  dequantize_rows(w, 0, w.out, all.data<float>());
  return all;
}

/// A slab's matrix with its side branches added.
inline Tensor merged(const Slab& slab) {
  Tensor all = dense(slab.weight);
  for (const SideBranch& branch : slab.branches) {
    const Tensor up = dense(branch.up), down = dense(branch.down);
    for (int64_t o = 0; o < up.dim(0); ++o)
      for (int64_t i = 0; i < down.dim(1); ++i) {
        double sum = 0;
        for (int64_t r = 0; r < branch.rank(); ++r)
          sum += double{up.data<float>()[o * branch.rank() + r]} * down.data<float>()[r * down.dim(1) + i];
        all.data<float>()[o * down.dim(1) + i] += static_cast<float>(branch.factor * sum);
      }
  }
  return all;
}

inline Linear as_rounded(const Linear& layer) {
  Linear rounded;
  for (const Slab& slab : layer.slabs) {
    const bool stays = slab.weight.format == WeightFormat::f8_e4m3 && slab.branches.empty();
    const Tensor numbers = merged(slab);
    rounded.slabs.push_back({dense_weight(stays ? numbers : as_rounded(numbers)), slab.bias});
  }
  return rounded;
}

struct LinearSize {
  int64_t rows, in;
  std::vector<int64_t> outs;
};

/// check(parts, what) for two streams of several sequences with every activation, with and without gates and residuals.
inline void for_every_epilogue(const auto& check) {
  const Linear txt = tolerant(WeightFormat::f32, {64, 48}, 64, 3), img = tolerant(WeightFormat::bf16, {112}, 96, 4);
  const Sequences txt_rows(std::vector<int64_t>{5, 0, 1, 20}), img_rows(std::vector<int64_t>{100, 30, 1, 2});
  const auto gates = [](const Sequences& sequences) {
    return SequenceRows{random_normal({12, 112}, 8), random_indices(sequences.count(), 9, 9), 2, &sequences};
  };
  const Tensor txt_x = random_normal({26, 64}, 1), img_x = random_normal({133, 96}, 2);
  for (const Activation activation : {Activation::none, Activation::silu, Activation::gelu_tanh})
    for (const bool gated : {false, true})
      for (const bool added : {false, true}) {
        Epilogue a = {.activation = activation}, b = {.activation = activation};
        if (gated) a.gate = gates(txt_rows), b.gate = gates(img_rows);
        if (added) a.residual = random_normal({26, 112}, 5), b.residual = random_normal({133, 112}, 6);
        check(std::vector<LinearPart>{{txt_x, &txt, a}, {img_x, &img, b}},
              fmt::format("activation {}, gate {}, residual {}", static_cast<int>(activation), gated, added));
      }
}

/// Whose kernels a GPU takes.
enum class KernelsOf : uint8_t { its_own, ampere };

/// A cuda device that rounds to 8 bits.
class RoundedOnCudaTest : public testing::TestWithParam<KernelsOf> {
 protected:
  void open(CudaArithmetic arithmetic) {
    cuda_ = make_cuda_device({.arithmetic = arithmetic, .ampere_kernels = GetParam() == KernelsOf::ampere});
    cuda_ops_.emplace(*cuda_);
  }

  Ops& device_ops() { return *cuda_ops_; }
  Ops& reference() { return reference_; }

  Tensor upload(const Tensor& host) { return host ? cuda_->upload(host) : host; }
  Tensor download(const Tensor& t) { return to_f32(cuda_->download(t)); }
  Tensor download_as_is(const Tensor& t) { return cuda_->download(t); }

  /// A layer as a loader of models leaves it on the device.
  Linear placed(const Linear& host) {
    Linear layer = host;
    cuda_->upload_weights(layer);
    if (host.tolerance == nullptr) return layer;
    layer.tolerance = std::make_shared<Tolerance>();
    cuda_->round_weights(layer);
    return layer;
  }

  /// Parts on the host, computed on the device.
  std::vector<Tensor> on_device(const std::vector<LinearPart>& parts) {
    std::deque<Linear> layers;
    std::vector<LinearPart> there = parts;
    for (LinearPart& part : there) {
      part.layer = &layers.emplace_back(placed(*part.layer));
      for (Tensor* t : {&part.x, &part.epilogue.residual, &part.epilogue.gate.table, &part.epilogue.gate.row})
        *t = upload(*t);
    }
    std::vector<Tensor> results = device_ops().linear(there);
    for (Tensor& t : results) t = download(t);
    return results;
  }

  /// Of formats that are rounded in different ways.
  void expect_error_between(double least, double most) {
    for (const WeightFormat format :
         {WeightFormat::f32, WeightFormat::bf16, WeightFormat::affine4, WeightFormat::q4_k}) {
      const Linear layer = tolerant(format, {160}, 768, 3);
      const Tensor x = random_normal({40, 768}, 1);
      const double error = relative_l2(on_device({{x, &layer}})[0], reference().linear(x, layer));
      EXPECT_GT(error, least) << layout_of(format).name;
      EXPECT_LT(error, most) << layout_of(format).name;
    }
  }

  /// Layers of these inputs and outputs, and one that does not tolerate rounding.
  void expect_in_bf16(const std::vector<std::pair<int64_t, int64_t>>& sizes) {
    const auto expect = [&](const Linear& layer) {
      const Tensor x = random_normal({20, layer.in()}, 1);
      EXPECT_LT(relative_l2(on_device({{x, &layer}})[0], reference().linear(x, layer)), 2 * kNarrowRounding)
          << layer.in();
    };
    for (const auto& [in, out] : sizes) expect(tolerant(WeightFormat::f32, {out}, in, 3));
    Linear strict = tolerant(WeightFormat::f32, {64}, 64, 3);
    strict.tolerance = nullptr;
    expect(strict);
  }

  /// A row with NaN, and one of zeros, whose results are `kept` of the biases.
  void expect_nan_in_its_row(float (*kept)(float bias)) {
    const Linear layer = tolerant(WeightFormat::f32, {64}, 48, 3);
    Tensor x = random_normal({20, 48}, 1);
    x.data<float>()[7 * 48 + 3] = NAN;
    std::fill_n(x.data<float>() + 9 * 48, 48, 0.0f);
    const Tensor y = on_device({{x, &layer}})[0];
    for (int64_t row = 0; row < 20; ++row)
      for (const float v : values_of(y.rows(row, row + 1))) EXPECT_EQ(std::isnan(v), row == 7) << row;
    for (int64_t o = 0; o < 64; ++o) EXPECT_EQ(y.data<float>()[9 * 64 + o], kept(layer.slabs[0].bias.data<float>()[o]));
  }

  void expect_same_numbers_twice() {
    const Linear layer = tolerant(WeightFormat::bf16, {192}, 768, 3);
    const Tensor x = random_normal({700, 768}, 1);
    EXPECT_EQ(values_of(on_device({{x, &layer}})[0]), values_of(on_device({{x, &layer}})[0]));
  }

 private:
  std::unique_ptr<Device> cuda_, host_ = make_reference_device();
  std::optional<Ops> cuda_ops_;
  Ops reference_{*host_};
};

#define INKSTONE_ON_EVERY_GPU(suite)                                     \
  INSTANTIATE_TEST_SUITE_P(                                              \
      By, suite, testing::Values(KernelsOf::its_own, KernelsOf::ampere), \
      [](const auto& instance) { return instance.param == KernelsOf::ampere ? "ampere_kernels" : "own_kernels"; })

class Fp8Test : public RoundedOnCudaTest {
 protected:
  void SetUp() override {
    if (const std::string reason = why_no_fp8(); !reason.empty()) GTEST_SKIP() << reason;
    open(CudaArithmetic::fp8);
  }

  /// The numbers of a tensor in the form that feeds a layer: codes, and scales behind them.
  Tensor numbers_of(const Tensor& codes) {
    const int64_t n = codes.dim(0), d = codes.dim(1);
    const Tensor scales = download({codes.buffer(), codes.offset() + codes.bytes(), {n, 1}, DType::f32});
    return dense({WeightFormat::f8_e4m3, n, d, download_as_is(codes), scales, {}, d});
  }
};

}  // namespace inkstone
