#include "model/parity.h"

namespace inkstone {
namespace {

/// What the first step of a guided run of diffusers' pipeline saw and made.
class GuidanceParityTest : public ParityTest {
 protected:
  GuidanceParityTest() {
    for (const auto& run : expected_.cases("runs"))
      if (run.at("detailed").get<bool>()) {
        name_ = run.at("name").get<std::string>() + ".first.";
        scale_ = run.at("cfg").get<float>();
      }
  }

  Tensor scalar(float value) { return ops_.upload(host_tensor(std::vector<float>{value})); }

  /// The step from what was there before it.
  Tensor stepped(const Tensor& sample, float scale, float factor) {
    return ops_.guided_step(sample, {upload(name_ + "cond"), upload(name_ + "uncond"), scalar(scale)}, scalar(factor));
  }
  /// The velocity: a step of one from zeros.
  Tensor guided(float scale) {
    const Tensor cond = expected_[name_ + "cond"];
    const std::vector<float> zeros(static_cast<size_t>(cond.count()));
    return stepped(ops_.upload(host_tensor(zeros).reshape(cond.shape())), scale, 1);
  }
  float difference() {
    const auto sigmas = expected_[name_ + "sigmas"].span<const float>();
    return sigmas[1] - sigmas[0];
  }

  std::string name_;
  float scale_ = 0;
};

TEST_P(GuidanceParityTest, GuidedVelocityHasTheNormOfTheConditional) {
  ASSERT_GT(scale_, 1.0f);
  expect_equal(guided(scale_), name_ + "guided");
}

TEST_P(GuidanceParityTest, ScaleOneIsTheConditional) { expect_equal(guided(1.0f), name_ + "cond"); }

TEST_P(GuidanceParityTest, GuidedStep) {
  expect_equal(stepped(upload(name_ + "sample"), scale_, difference()), name_ + "next");
}

TEST_P(GuidanceParityTest, EulerStep) {
  expect_equal(ops_.add_scaled(upload(name_ + "sample"), upload(name_ + "guided"), scalar(difference())),
               name_ + "next");
}

INKSTONE_ON_ALL_MODELS(GuidanceParityTest);

}  // namespace
}  // namespace inkstone
