#include "ops/profiler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sstream>

#include "ops/decorated.h"
#include "reference/reference_device.h"

namespace inkstone {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class ProfilerTest : public ::testing::Test {
 protected:
  const Profiler::OpTime& time_of(const std::string& op) {
    times_ = profiler_.times();
    for (const auto& time : times_)
      if (time.op == op) return time;
    ADD_FAILURE() << op << " did not run";
    return times_.front();
  }

  /// The words of the table's line that begins with `op`.
  std::vector<std::string> line_of(const std::string& op) {
    std::istringstream table(profiler_.table());
    for (std::string line; std::getline(table, line);) {
      if (!line.starts_with(op + " ")) continue;
      std::istringstream words(line);
      return {std::istream_iterator<std::string>(words), {}};
    }
    return {};
  }

  std::unique_ptr<Device> device_ = make_reference_device();
  Profiler profiler_{device_->kernels()};
  Ops ops_{*device_, profiler_};
  std::vector<Profiler::OpTime> times_;
};

TEST_F(ProfilerTest, SumsCallsTimeAndWorkPerOp) {
  run_some_ops(ops_);
  run_some_ops(ops_);
  EXPECT_EQ(profiler_.times().size(), 4u);
  EXPECT_EQ(time_of("linear").calls, 4);
  EXPECT_EQ(time_of("linear").flop, 2 * (2.0 * 5 * 32 * 48 + 2.0 * 5 * 16 * 8));
  EXPECT_EQ(time_of("attention").calls, 2);
  double sum = 0;
  for (const auto& time : profiler_.times()) {
    EXPECT_GT(time.seconds, 0) << time.op;
    sum += time.seconds;
  }
  EXPECT_DOUBLE_EQ(profiler_.seconds(), sum);
}

TEST_F(ProfilerTest, ListsTheLongestFirst) {
  run_some_ops(ops_);
  times_ = profiler_.times();
  for (size_t i = 1; i < times_.size(); ++i) EXPECT_GE(times_[i - 1].seconds, times_[i].seconds);
}

TEST_F(ProfilerTest, TheTableHasALinePerOpAndTheSum) {
  run_some_ops(ops_);
  EXPECT_THAT(profiler_.table(), HasSubstr("op "));
  EXPECT_THAT(profiler_.table(), HasSubstr("GFLOP/s"));
  EXPECT_THAT(profiler_.table(), Not(HasSubstr("conv2d")));

  const auto linear = line_of("linear");
  ASSERT_EQ(linear.size(), 5u) << profiler_.table();
  EXPECT_EQ(linear[1], "2");
  EXPECT_GT(std::stod(linear[4]), 0);
  EXPECT_EQ(line_of("rms_norm").at(4), "-");  // its arithmetic does not count
  const auto all = line_of("all ops");
  ASSERT_EQ(all.size(), 6u) << profiler_.table();
  EXPECT_EQ(all[2], "5");
  EXPECT_EQ(all[4], "100.0%");
}

TEST_F(ProfilerTest, IsEmptyAtFirstAndAfterClear) {
  EXPECT_TRUE(profiler_.times().empty());
  EXPECT_THAT(profiler_.table(), HasSubstr("all ops"));
  run_some_ops(ops_);
  profiler_.clear();
  EXPECT_TRUE(profiler_.times().empty());
}

}  // namespace
}  // namespace inkstone
