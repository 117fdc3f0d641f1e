// Plans of cuBLASLt's products, of which the cuda device keeps only so many.
#include <gtest/gtest.h>

#include "cuda/cuda_device.h"
#include "model/block_source.h"
#include "ops/ops.h"
#include "ops/random_tensors.h"
#include "reference/reference_device.h"

namespace inkstone {
namespace {

TEST(CudaProductsTest, GiveTheSameNumbersAfterMoreSizesThanAreKept) {
  if (const std::string reason = why_no_cuda(); !reason.empty()) GTEST_SKIP() << reason;
  constexpr int64_t kSizes = 1100, kIn = 48;
  const auto device = make_cuda_device({.arithmetic = CudaArithmetic::f32}), host = make_reference_device();
  Ops ops(*device);
  const Linear layer = random_layer(WeightFormat::f32, 32, kIn, 1);
  Linear there = layer;
  for_each_tensor(there, [&](Tensor& tensor) { tensor = device->upload(tensor); });
  const Tensor x = random_normal({kSizes, kIn}, 2), all = device->upload(x);
  const Tensor expected = Ops(*host).linear(x, layer);
  const auto expect_first = [&](int64_t rows) {
    const Tensor y = device->download(ops.linear(all.rows(0, rows), there));
    ASSERT_LT(relative_l2(y, expected.rows(0, rows)), 1e-5) << rows;
  };
  for (int64_t rows = 1; rows <= kSizes; ++rows) expect_first(rows);
  for (const int64_t rows : {int64_t{1}, int64_t{2}, kSizes / 2, kSizes}) expect_first(rows);
}

}  // namespace
}  // namespace inkstone
