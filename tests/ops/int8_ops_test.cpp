// The 8-bit functions of every instruction set against plain loops over the same whole numbers.
#include <gmock/gmock.h>

#include "cpu/int8_panel.h"
#include "cpu/int8_tile_rows.h"
#include "ops/cpu_under_test.h"
#include "ops/int8_plain.h"

namespace inkstone {
namespace {

class Int8OpsTest : public testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (!supports(GetParam())) GTEST_SKIP() << "this processor lacks it";
    ops = &int8_ops(GetParam());
  }
  const Int8Ops* ops = nullptr;
};
INKSTONE_FOR_EVERY_ISA(Int8OpsTest);

Codes codes_by(const Int8Ops& ops, const Tensor& x, const std::vector<float>& factors = {}) {
  const int64_t n = x.dim(1), groups = groups_of(n);
  Codes all = {std::vector<int8_t>(static_cast<size_t>(x.count())),
               std::vector<float>(static_cast<size_t>(x.dim(0) * groups)),
               std::vector<int32_t>(static_cast<size_t>(x.dim(0) * groups))};
  for (int64_t row = 0; row < x.dim(0); ++row)
    ops.quantize({x.data<const float>() + row * n, factors.empty() ? nullptr : factors.data()}, n,
                 {all.codes.data() + row * n, all.scales.data() + row * groups, all.sums.data() + row * groups});
  return all;
}

/// One for each of n inputs.
std::vector<float> some_factors(int64_t n) {
  std::vector<float> factors;
  for (int64_t i = 0; i < n; ++i) factors.push_back(std::exp2(-static_cast<float>(i % 7)));
  return factors;
}

TEST_P(Int8OpsTest, QuantizeRoundsEachGroupToItsGreatest) {
  for (const int64_t n : {1, 3, 16, 100, 127, 128, 129, 192, 300, 1536, 2200})
    for (const auto& factors : {std::vector<float>(), some_factors(n)}) {
      const Tensor x = random_normal({5, n}, static_cast<uint64_t>(n));
      const Codes actual = codes_by(*ops, x, factors), expected = plain_codes(x, factors);
      EXPECT_EQ(actual.codes, expected.codes) << n;
      EXPECT_EQ(actual.scales, expected.scales) << n;
      EXPECT_EQ(actual.sums, expected.sums) << n;
    }
}

TEST_P(Int8OpsTest, QuantizeKeepsZerosAndTellsWhatIsNotFinite) {
  Tensor x = random_normal({1, 3 * kInt8Group}, 1);
  std::fill_n(x.data<float>(), kInt8Group, 0.0f);
  for (const float broken : {NAN, INFINITY, -INFINITY}) {
    x.data<float>()[kInt8Group + 5] = broken;
    const Codes actual = codes_by(*ops, x);
    EXPECT_EQ(actual.scales[0], 0);
    EXPECT_THAT(std::vector(actual.codes.begin(), actual.codes.begin() + kInt8Group), testing::Each(0));
    EXPECT_FALSE(std::isfinite(actual.scales[1]));
    EXPECT_GT(actual.scales[2], 0);
  }
}

/// A panel of one strip.
struct Panel {
  Panel(const Int8Ops& ops, const Tensor& w, const std::vector<float>& factors)
      : width((w.dim(0) + ops.lanes - 1) / ops.lanes * ops.lanes),
        codes(static_cast<size_t>((w.dim(1) + ops.depth_unit) * width * ops.code_bytes)),
        scales(static_cast<size_t>(groups_of(w.dim(1)) * width)) {
    const int64_t n = w.dim(1);
    std::vector<float> mixed(static_cast<size_t>(ops.lanes * kInt8Group)),
        most(static_cast<size_t>(ops.lanes * ops.lanes));
    for (int64_t i = 0; i < w.dim(0); i += ops.lanes)
      for (int64_t group = 0; group < n; group += kInt8Group) {
        const int64_t outputs = std::min(ops.lanes, w.dim(0) - i), depth = std::min(kInt8Group, n - group);
        for (int64_t o = 0; o < outputs; ++o)
          ops.mixer(WeightFormat::f32, 0)({.blocks = w.data<const uint8_t>() + ((i + o) * n + group) * sizeof(float)},
                                          factors.data() + group, depth, mixed.data() + o * kInt8Group,
                                          most.data() + o * ops.lanes);
        ops.pack_lanes({.w = mixed.data(),
                        .most = most.data(),
                        .stride = kInt8Group,
                        .outputs = outputs,
                        .depth = depth,
                        .vectors = width / ops.lanes,
                        .panel = codes.data() + (group * width + i * ops.depth_unit) * ops.code_bytes,
                        .scales = scales.data() + group / kInt8Group * width + i});
      }
  }

  int64_t width;
  std::vector<std::byte> codes;
  std::vector<float> scales;
};

struct TileSize {
  int64_t rows, columns, depth;
};

void expect_product(const Int8Ops& ops, const TileSize& size, const Tensor& x, const Tensor& w) {
  const std::vector<float> factors = some_factors(size.depth);
  const Codes rows = codes_by(ops, x), weights = plain_codes(w, factors);
  const Panel panel(ops, w, factors);
  std::vector<std::byte> strip(static_cast<size_t>(ops.strip_bytes));
  ops.prepare_rows(rows.codes.data(), size.depth, size.rows, size.depth, strip.data());
  Int8TileRows tile_rows(ops);
  tile_rows.gather({rows.scales.data(), rows.sums.data(), groups_of(size.depth)}, size.rows, groups_of(size.depth));
  constexpr float kBefore = 1000;
  const int64_t stride = size.columns + 3;
  for (const bool accumulate : {false, true}) {
    std::vector<float> y(static_cast<size_t>(size.rows * stride), kBefore);
    ops.multiply_tile({.rows = strip.data(),
                       .rows_stride = ops.strip_stride,
                       .row_scales = tile_rows.scales(),
                       .row_sums = tile_rows.sums(),
                       .panel = panel.codes.data(),
                       .panel_scales = panel.scales.data(),
                       .y = y.data(),
                       .y_stride = stride,
                       .rows_count = size.rows,
                       .columns = size.columns,
                       .depth = size.depth,
                       .accumulate = accumulate});
    for (int64_t row = 0; row < size.rows; ++row)
      for (int64_t i = 0; i < stride; ++i) {
        const float actual = y[static_cast<size_t>(row * stride + i)];
        if (i >= size.columns) {
          EXPECT_EQ(actual, kBefore) << "beside the tile";
          continue;
        }
        const double expected = plain_product(rows, weights, row, i, size.depth) + (accumulate ? kBefore : 0);
        // Whole sums are exact; each group's scaling and addition round, as does adding what was there.
        EXPECT_NEAR(actual, expected, 4 * (accumulate ? kBefore : 20) * kRounding)
            << size.rows << " rows, " << size.columns << " columns, " << size.depth << " deep, at " << row << ", " << i;
      }
  }
}

/// All panels of a weight, one behind the other.
std::vector<std::byte> packed(Isa isa, const Weight& weight, const Int8Factors* factors) {
  const Int8Functions functions = {vector_ops(isa), int8_ops(isa)};
  const Int8Packer packer(functions, weight, factors);
  std::vector<float> room(static_cast<size_t>(packer.room()));
  std::vector<std::byte> all;
  const int64_t depth = panel_depth(functions.int8, weight.in);
  for (int64_t begin = 0; begin < weight.in; begin += depth) {
    const int64_t end = std::min(begin + depth, weight.in);
    const Tensor memory = host_tensor({Int8Panel::bytes(functions.int8, weight.out, end - begin)}, DType::u8);
    std::ranges::fill(memory.span<uint8_t>(), uint8_t{0});
    packer.pack({functions.int8, {0, weight.out, begin, end}, memory.data<std::byte>()}, room.data());
    const auto bytes = memory.span<const std::byte>();
    all.insert(all.end(), bytes.begin(), bytes.end());
  }
  return all;
}

/// As if it were a matrix of f32 from the start.
void expect_its_numbers_packed(Isa isa, const Weight& weight) {
  const Tensor numbers = host_tensor({weight.out, weight.in}, DType::f32);
  dequantize_rows(weight, 0, weight.out, numbers.data<float>());
  const Weight dense = dense_weight(numbers);
  const Int8Factors factors = {.of_weight = some_factors(weight.in)};
  for (const Int8Factors* with : {&factors, static_cast<const Int8Factors*>(nullptr)})
    EXPECT_TRUE(packed(isa, weight, with) == packed(isa, dense, with)) << fmt::format(
        "{} in groups of {}, {} out, {} in", layout_of(weight.format).name, weight.group, weight.out, weight.in);
}

// Inputs end within groups, at their ends and in a second panel; outputs within vectors and strips.
TEST_P(Int8OpsTest, PanelsOfEveryFormatHoldItsNumbers) {
  for (const WeightFormat format : every_weight_format())
    for (const int64_t in : {random_unit(format), 5 * random_unit(format), int64_t{3328}})
      expect_its_numbers_packed(GetParam(), random_weight(format, 37, in, 3));
}

TEST_P(Int8OpsTest, PanelsOfAffineGroupsHoldTheirNumbers) {
  for (const int bits : {4, 8})
    for (const int64_t group : {32, 64, 96, 128})
      for (const int64_t groups : {1, 5, 26, 52})
        expect_its_numbers_packed(GetParam(), random_affine(bits, 70, groups * group, 3, group));
}

TEST_P(Int8OpsTest, ReadsTheOrderOfFilesWhereItsCodesAreBytes) { EXPECT_EQ(ops->reads_mixed, ops->code_bytes == 1); }

TEST_P(Int8OpsTest, TilesOfEverySizeEqualPlainSums) {
  for (const int64_t rows : {int64_t{1}, ops->tile_rows - 1, ops->tile_rows})
    for (const int64_t columns :
         {int64_t{1}, ops->lanes, ops->lanes + 1, ops->lanes * ops->panel_vectors - 1, ops->lanes * ops->panel_vectors})
      for (const int64_t depth : {1, 2, 5, 64, 127, 128, 130, 192, 256, 384}) {
        const Tensor x = random_normal({rows, depth}, 1), w = random_normal({columns, depth}, 2);
        const float size = 1 / std::sqrt(static_cast<float>(depth));
        for (float& v : w.span<float>()) v *= size;
        expect_product(*ops, {rows, columns, depth}, x, w);
      }
}

TEST_P(Int8OpsTest, TheGreatestCodesDoNotOverflow) {
  const TileSize size = {ops->tile_rows, ops->lanes, kInt8Group};
  for (const float sign : {1.0f, -1.0f}) {
    const Tensor x = host_tensor({size.rows, size.depth}, DType::f32),
                 w = host_tensor({size.columns, size.depth}, DType::f32);
    std::vector<float> ones(static_cast<size_t>(size.depth), 1.0f);
    mix(ones);  // becomes ones when it is mixed again
    const std::vector<float> factors = some_factors(size.depth);
    for (int64_t i = 0; i < x.count(); ++i) x.data<float>()[i] = ones[static_cast<size_t>(i % size.depth)];
    for (int64_t i = 0; i < w.count(); ++i) {
      const auto input = static_cast<size_t>(i % size.depth);
      w.data<float>()[i] = sign / kInt8Group * ones[input] / factors[input];
    }
    expect_product(*ops, size, x, w);
  }
}

}  // namespace
}  // namespace inkstone
