// Layers that work aside is the first to use, while the rest of the device goes on.
#include <deque>
#include <gtest/gtest.h>

#include "ops/device_under_test.h"
#include "why_no_fp8.h"

namespace inkstone {
namespace {

constexpr int64_t kWidth = 64, kMany = 300, kFew = 7;
constexpr int64_t kWide = 8192;  // whose weights take a while to read
constexpr int kDelays = 5;

class CudaApartTest : public testing::TestWithParam<CudaArithmetic> {
 protected:
  void SetUp() override {
    std::string reason = GetParam() == CudaArithmetic::fp8 ? why_no_fp8() : why_no_cuda();
    if (!reason.empty()) GTEST_SKIP() << reason;
    device_ = make_cuda_device({.arithmetic = GetParam()});
    ops_.emplace(*device_);
    Linear wide = {.slabs = {{dense_weight(as_bf16(repeated_normal({kWide, kWide}, 9))), {}}}};
    delay_ = placed(wide);
    wide_x_ = device_->upload(random_normal({kFew, kWide}, 8));
    many_ = random_normal({kMany, kWidth}, 1), few_ = random_normal({kFew, kWidth}, 2);
    many_there_ = device_->upload(many_), few_there_ = device_->upload(few_);
  }

  /// A layer that nobody has used yet, not rounded when it was bound.
  const Linear& placed(const Linear& layer) {
    Linear& there = layers_.emplace_back(layer);
    for_each_tensor(there, [&](Tensor& tensor) { tensor = device_->upload(tensor); });
    if (layer.tolerance) there.tolerance = std::make_shared<Tolerance>();
    return there;
  }

  /// Many rows through one layer beside, after much else, few through another.
  std::vector<Tensor> run(const Linear& of_many, const Linear& of_few) {
    std::vector<LinearPart> parts = {{many_there_, &of_many, {.feeds = &of_many}}};
    for (int i = 0; i < kDelays; ++i) parts.push_back({wide_x_, &delay_});
    parts.push_back({few_there_, &of_few, {.feeds = &of_few}});
    const std::vector<Tensor> all = ops_->linear(parts);
    return {all.front(), all.back()};
  }

  void expect_near(const Tensor& got, const Tensor& x, const Linear& host) {
    const double most = GetParam() == CudaArithmetic::fp8 ? 0.08 : GetParam() == CudaArithmetic::int8 ? 0.02 : 0.01;
    EXPECT_LT(relative_l2(numbers_of(got), Ops(*host_).linear(x, host)), most);
  }

  /// FP8 has the scales of its codes behind them.
  Tensor numbers_of(const Tensor& t) {
    if (t.dtype() != DType::f8_e4m3) return to_f32(device_->download(t));
    const int64_t n = t.dim(0), d = t.dim(1);
    const Tensor scales = device_->download({t.buffer(), t.offset() + t.bytes(), {n, 1}, DType::f32});
    const Weight codes = {WeightFormat::f8_e4m3, n, d, device_->download(t), scales, {}, d};
    Tensor all = host_tensor({n, d}, DType::f32);
    dequantize_rows(codes, 0, n, all.data<float>());
    return all;
  }

  std::unique_ptr<Device> device_, host_ = make_reference_device();
  std::optional<Ops> ops_;
  std::deque<Linear> layers_;
  Linear delay_;
  Tensor wide_x_, many_, few_, many_there_, few_there_;
};

TEST_P(CudaApartTest, ALayerOfBothStreamsIsReadyForBoth) {
  const Linear host = tolerant(WeightFormat::bf16, {kWidth}, kWidth, 3);
  const Linear &used = placed(host), &fresh = placed(host);
  run(used, used);  // finds kernels for such sizes, which takes a while
  device_->wait();
  const std::vector<Tensor> got = run(fresh, fresh);
  expect_near(got[0], many_, host);
  expect_near(got[1], few_, host);
}

TEST_P(CudaApartTest, ALayerOfOneStreamIsReadyForTheOtherInTheNextOp) {
  const Linear host = tolerant(WeightFormat::bf16, {kWidth}, kWidth, 3);
  const Linear &used = placed(host), &fresh = placed(host);
  run(used, used);
  device_->wait();
  run(used, fresh);
  expect_near(run(fresh, used)[0], many_, host);
}

INSTANTIATE_TEST_SUITE_P(In, CudaApartTest,
                         testing::Values(CudaArithmetic::bf16, CudaArithmetic::int8, CudaArithmetic::fp8),
                         [](const auto& instance) {
                           return instance.param == CudaArithmetic::bf16   ? "bf16"
                                  : instance.param == CudaArithmetic::int8 ? "int8"
                                                                           : "fp8";
                         });

}  // namespace
}  // namespace inkstone
