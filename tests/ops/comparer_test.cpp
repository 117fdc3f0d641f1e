#include "ops/comparer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ops/decorated.h"
#include "reference/reference_device.h"

namespace inkstone {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using OnDifference = Comparer::OnDifference;

/// The reference's kernels, but from the given call of one op on, its last result has one wrong element.
class Faulty final : public Interceptor {
 public:
  Faulty(Kernels& inner, std::string op, int call, float fault)
      : inner_(inner), op_(std::move(op)), call_(call), fault_(fault) {}

 private:
  void intercept(const Call& call) override {
    call.run(inner_, call.out);
    if (call.op != op_ || ++seen_ < call_) return;
    const Tensor& out = call.out.back();
    if (out.dtype() == DType::u8) {
      out.data<uint8_t>()[out.count() - 1] += static_cast<uint8_t>(fault_);
    } else {
      out.data<float>()[out.count() - 1] += fault_;
    }
  }

  Kernels& inner_;
  std::string op_;
  int call_, seen_ = 0;
  float fault_;
};

class ComparerTest : public ::testing::Test {
 protected:
  std::string error_with(Kernels& first, double tolerance) {
    Comparer comparer(first, device_->kernels(), tolerance);
    Ops ops(*device_, comparer);
    try {
      run_some_ops(ops);
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  }

  std::unique_ptr<Device> device_ = make_reference_device();
};

TEST_F(ComparerTest, FindsNoDifferenceBetweenEqualDevices) {
  Comparer comparer(device_->kernels(), device_->kernels(), 0);
  Ops ops(*device_, comparer);
  const Tensor result = run_some_ops(ops);
  EXPECT_FALSE(comparer.first());
  EXPECT_EQ(comparer.calls(), 5);
  EXPECT_EQ(comparer.worst(), 0);
  Ops plain(*device_);
  EXPECT_EQ(values_of(result), values_of(run_some_ops(plain)));
}

TEST_F(ComparerTest, NamesTheOpTheCallAndTheShapesOfAFault) {
  Faulty faulty(device_->kernels(), "linear", 2, 0.5f);
  const std::string error = error_with(faulty, 1e-5);
  EXPECT_THAT(error, HasSubstr("linear, call 5: result 0 of shape [5, 8] differs by"));
  EXPECT_THAT(error, HasSubstr("the op read [5, 16]; at most 1e-05 is right"));
}

TEST_F(ComparerTest, LooksAtEveryResultOfAnOp) {
  Faulty faulty(device_->kernels(), "join_qkv", 1, 0.5f);
  EXPECT_THAT(error_with(faulty, 1e-5), HasSubstr("join_qkv, call 3: result 2 of shape [5, 2, 8]"));
}

TEST_F(ComparerTest, AllowsWhatIsWithinTheTolerance) {
  Faulty faulty(device_->kernels(), "rms_norm", 1, 1e-4f);
  EXPECT_EQ(error_with(faulty, 1e-3), "");
  EXPECT_THAT(error_with(faulty, 1e-7), HasSubstr("rms_norm, call 1"));
}

TEST_F(ComparerTest, RecordsTheFirstDifferenceAndTheWorst) {
  Faulty faulty(device_->kernels(), "linear", 1, 0.5f);  // both calls are wrong
  Comparer comparer(faulty, device_->kernels(), 1e-5, OnDifference::record);
  Ops ops(*device_, comparer);
  run_some_ops(ops);
  ASSERT_TRUE(comparer.first());
  EXPECT_EQ(comparer.first()->op, "linear");
  EXPECT_EQ(comparer.first()->call, 2);
  EXPECT_THAT(comparer.first()->in, ElementsAre(Shape{5, 32}));
  EXPECT_EQ(comparer.calls(), 5);
  EXPECT_GE(comparer.worst(), comparer.first()->error);
}

TEST_F(ComparerTest, NotANumberIsADifference) {
  Faulty faulty(device_->kernels(), "attention", 1, NAN);
  EXPECT_THAT(error_with(faulty, 1e30), HasSubstr("attention, call 4: result 0 of shape [5, 16] differs by inf"));
}

TEST_F(ComparerTest, PixelsMayRoundEitherWay) {
  for (const float levels : {1.0f, 2.0f}) {
    Faulty faulty(device_->kernels(), "to_rgb8", 1, levels);
    Comparer comparer(faulty, device_->kernels(), 0, OnDifference::record);
    Ops ops(*device_, comparer);
    ops.to_rgb8(random_normal({2, 2, 3}, 1, 0.1f));
    EXPECT_EQ(comparer.first().has_value(), levels > 1) << levels;
  }
}

}  // namespace
}  // namespace inkstone
