#include "ops/trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/quantity.h"
#include "ops/decorated.h"
#include "ops/dry_device.h"
#include "reference/reference_device.h"

namespace inkstone {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::string> names(const Trace& trace) {
  std::vector<std::string> names;
  for (const Trace::Entry& entry : trace.entries()) names.push_back(entry.op);
  return names;
}

TEST(Trace, ListsCallsInOrderWithShapesBytesAndWork) {
  const auto device = make_reference_device();
  Trace trace(device->kernels());
  Ops ops(*device, trace);
  run_some_ops(ops);
  EXPECT_THAT(names(trace), ElementsAre("rms_norm", "linear", "join_qkv", "attention", "linear"));

  const Trace::Entry& linear = trace.entries()[1];
  EXPECT_THAT(linear.in, ElementsAre(Shape{5, 32}));
  EXPECT_THAT(linear.out, ElementsAre(Shape{5, 48}));
  EXPECT_EQ(linear.bytes, 4u * (5 * 32 + 5 * 48));
  EXPECT_EQ(linear.flop, 2.0 * 5 * 32 * 48);

  const Trace::Entry& attention = trace.entries()[3];
  EXPECT_THAT(attention.in, ElementsAre(Shape{5, 2, 8}, Shape{5, 2, 8}, Shape{5, 2, 8}));
  EXPECT_EQ(attention.flop, 4.0 * (1 + 2 + 1 + 2 + 3) * 16);  // pairs of the sequences of 2 and 3 rows
  EXPECT_EQ(trace.entries()[0].flop, 0);
}

TEST(Trace, DoesNotChangeResults) {
  const auto device = make_reference_device();
  Ops plain(*device);
  Trace trace(device->kernels());
  Ops traced(*device, trace);
  EXPECT_EQ(values_of(run_some_ops(traced)), values_of(run_some_ops(plain)));
}

TEST(Trace, SumsAndPrints) {
  const auto device = make_reference_device();
  Trace trace(device->kernels());
  Ops ops(*device, trace);
  run_some_ops(ops);
  const Trace::Totals totals = trace.totals();
  EXPECT_EQ(totals.calls, 5u);
  EXPECT_EQ(totals.flop, 2.0 * 5 * 32 * 48 + 4.0 * 9 * 16 + 2.0 * 5 * 16 * 8);
  EXPECT_THAT(trace.text(), HasSubstr("linear [5, 32] -> [5, 48]  1.60 kB  15.4 kFLOP\n"));
  EXPECT_THAT(trace.text(), HasSubstr("rms_norm [5, 32] -> [5, 32]  1.28 kB\n"));
  trace.clear();
  EXPECT_EQ(trace.totals().calls, 0u);
}

TEST(Trace, CountsConvolutionAndFullAttention) {
  const auto device = make_reference_device();
  Trace trace(device->kernels());
  Ops ops(*device, trace);
  const Conv2d conv = {.weight = random_normal({5, 3, 3, 2}, 1), .bias = random_normal({5}, 2)};
  ops.conv2d(random_normal({1, 4, 6, 2}, 3), conv, random_normal({1, 4, 6, 5}, 4));
  EXPECT_EQ(trace.entries()[0].flop, 2.0 * (4 * 6) * 5 * (9 * 2));
  EXPECT_EQ(trace.entries()[0].in.size(), 2u);

  const Sequences sequences(std::vector<int64_t>{2, 3});
  const Tensor qkv = random_normal({5, 4 * 3}, 5);
  ops.attention(ops.join_qkv({{.qkv = qkv, .sequences = &sequences}}, {.heads = 2, .kv_heads = 1, .width = 3}));
  EXPECT_EQ(trace.entries()[2].flop, 4.0 * (4 + 9) * 6);
}

TEST(Trace, ADryRunTellsWorkAndMemoryOfARealOne) {
  const auto device = make_reference_device();
  Trace real(device->kernels());
  Ops ops(*device, real);
  run_some_ops(ops);

  const auto dry_device = make_dry_device();
  Trace dry;
  Ops dry_ops(*dry_device, dry);
  const Tensor result = run_some_ops(dry_ops);
  EXPECT_EQ(dry.text(), real.text());
  EXPECT_EQ(dry_device->memory().current, 4u * 5 * 8);  // the result alone is left
  // Ends with the normed rows, qkv, q, k, v, the attended rows and the result.
  EXPECT_EQ(dry_device->memory().peak, 4u * 5 * (32 + 48 + 48 + 16 + 8));
  EXPECT_LE(dry_device->memory().peak, device->memory().peak);
  EXPECT_EQ(values_of(dry_ops.download(result)), std::vector<float>(5 * 8, 0.0f));
}

TEST(Quantity, HasThreeDigitsAndAPrefix) {
  EXPECT_EQ(quantity(0, "B"), "0 B");
  EXPECT_EQ(quantity(999, "B"), "999 B");
  EXPECT_EQ(quantity(999.6, "B"), "1.00 kB");
  EXPECT_EQ(quantity(15.7e6, "B"), "15.7 MB");
  EXPECT_EQ(quantity(123.4e9, "FLOP"), "123 GFLOP");
  EXPECT_EQ(quantity(99.96e9, "FLOP"), "100 GFLOP");
  EXPECT_EQ(quantity(9.996e12, "FLOP"), "10.0 TFLOP");
  EXPECT_EQ(quantity(13e15, "FLOP"), "13.0 PFLOP");
}

}  // namespace
}  // namespace inkstone
