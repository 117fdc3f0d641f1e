// Rows in 8 bits of tensors that begin where kernels cannot read four numbers at once.
#include "ops/rounded_on_cuda.h"

namespace inkstone {
namespace {

constexpr int64_t kRows = 20, kWidth = 64;

class CudaRoundedViewsTest : public Fp8Test {
 protected:
  /// The same numbers on the device, behind one more.
  Tensor behind_another(const Tensor& t) {
    const Tensor more = host_tensor({t.count() + 1}, DType::f32);
    std::ranges::copy(t.span<const float>(), more.data<float>() + 1);
    return upload(more).rows(1, more.count()).reshape(t.shape());
  }
};

TEST_P(CudaRoundedViewsTest, ALayersInputMayLieAnywhere) {
  const Linear layer = placed(tolerant(WeightFormat::bf16, {kWidth}, kWidth, 3));
  const Tensor x = random_normal({kRows, kWidth}, 1);
  const Tensor expected = download(device_ops().linear(upload(x), layer));
  EXPECT_EQ(values_of(download(device_ops().linear(behind_another(x), layer))), values_of(expected));
}

TEST_P(CudaRoundedViewsTest, WhatANormReadsMayLieAnywhere) {
  constexpr double kMostError = 0.06;  // of rows rounded from bf16 and from f32
  const Linear layer = placed(tolerant(WeightFormat::bf16, {kWidth}, kWidth, 3));
  const Sequences sequences = Sequences::equal(1, kRows);
  const Tensor row = upload(random_indices(1, 2, 4));
  const Tensor x = random_normal({kRows, kWidth}, 1), shift = random_normal({2, kWidth}, 2),
               scale = random_normal({2, kWidth}, 5);
  const auto through = [&](const Tensor& x_there, const Tensor& shift_there, const Tensor& scale_there) {
    const auto normed = device_ops().layer_norm_modulate(
        {{x_there, {shift_there, row, 0, &sequences}, {scale_there, row, 0, &sequences}, &layer}}, 1e-6f);
    return download(device_ops().linear(normed.front(), layer));
  };
  const Tensor expected = through(upload(x), upload(shift), upload(scale));
  EXPECT_LT(relative_l2(through(behind_another(x), upload(shift), upload(scale)), expected), kMostError);
  EXPECT_LT(relative_l2(through(upload(x), behind_another(shift), upload(scale)), expected), kMostError);
  EXPECT_LT(relative_l2(through(upload(x), upload(shift), behind_another(scale)), expected), kMostError);
}

INKSTONE_ON_EVERY_GPU(CudaRoundedViewsTest);

}  // namespace
}  // namespace inkstone
