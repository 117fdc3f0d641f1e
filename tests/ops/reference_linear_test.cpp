#include "ops/reference_test.h"

namespace inkstone {
namespace {

using ::testing::ElementsAre;

using ReferenceLinear = ReferenceTest;

TEST_F(ReferenceLinear, EmbedTakesRowsInTheOrderOfTheIds) {
  const Weight table = dense_weight(f32({3, 2}, {0, 1, 10, 11, 20, 21}));
  EXPECT_THAT(values_of(ops_.embed(table, i32({2, 0, 2}))), ElementsAre(20, 21, 0, 1, 20, 21));
}

TEST_F(ReferenceLinear, EmbedWidensEveryFormat) {
  for (const WeightFormat format : every_weight_format()) {
    const Weight table = random_weight(format, 3, 256, 5);
    std::vector<float> row(256);
    dequantize_rows(table, 1, 2, row.data());
    EXPECT_EQ(values_of(ops_.embed(table, i32({1}))), row) << layout_of(format).name;
  }
}

TEST_F(ReferenceLinear, MultipliesByTheTransposedMatrixAndAddsTheBias) {
  const Linear layer = {{{dense_weight(f32({3, 2}, {1, 2, 3, 4, 5, 6})), f32({3}, {10, 20, 30})}}};
  const Tensor x = f32({2, 2}, {1, 0, -1, 2});
  EXPECT_THAT(values_of(ops_.linear(x, layer)), ElementsAre(11, 23, 35, 13, 25, 37));
}

TEST_F(ReferenceLinear, SlabsStandSideBySideInTheOutput) {
  const Linear layer = {{{dense_weight(f32({1, 2}, {1, 2})), {}},
                         {dense_weight(as_bf16(f32({2, 2}, {3, 4, 5, 6}))), f32({2}, {10, 20})}}};
  EXPECT_THAT(values_of(ops_.linear(f32({2, 2}, {1, 1, 2, 0}), layer)), ElementsAre(3, 17, 31, 2, 16, 30));
}

TEST_F(ReferenceLinear, TheEpilogueActivatesThenGatesThenAdds) {
  const Linear layer = {{{dense_weight(f32({2, 1}, {1, -1})), {}}}};
  const Sequences sequences(std::vector<int64_t>{1, 2});
  // Sequence 0 takes row 1 + 1 of the table, sequence 1 takes row 0 + 1.
  const SequenceRows gate = {f32({3, 2}, {9, 9, 2, 3, 5, 7}), i32({1, 0}), 1, &sequences};
  const Tensor residual = f32({3, 2}, {100, 200, 300, 400, 500, 600});
  const Tensor y =
      ops_.linear(f32({3, 1}, {1, 2, -3}), layer, {.activation = Activation::silu, .gate = gate, .residual = residual});
  const auto silu = [](double x) { return x / (1 + std::exp(-x)); };
  EXPECT_THAT(values_of(y), Near({100 + 5 * silu(1), 200 + 7 * silu(-1), 300 + 2 * silu(2), 400 + 3 * silu(-2),
                                  500 + 2 * silu(-3), 600 + 3 * silu(3)}));
}

TEST_F(ReferenceLinear, ActivationsHaveTheValuesOfTheirFormulas) {
  const Linear identity = {{{dense_weight(f32({1, 1}, {1})), {}}}};
  const Tensor x = f32({5, 1}, {-3, -0.5f, 0, 1, 2});
  // torch.nn.functional.gelu(x, approximate="tanh") and silu(x) in f64.
  EXPECT_THAT(values_of(ops_.linear(x, identity, {.activation = Activation::gelu_tanh})),
              Near({-0.0036373921, -0.1542859902, 0.0000000000, 0.8411919906, 1.9545976941}));
  EXPECT_THAT(values_of(ops_.linear(x, identity, {.activation = Activation::silu})),
              Near({-0.1422776195, -0.1887703344, 0.0000000000, 0.7310585786, 1.7615941560}));
}

TEST_F(ReferenceLinear, PartsAreComputedEachForItself) {
  const Linear one = random_layer(WeightFormat::f32, 3, 4, 1);
  const Linear other = random_layer(WeightFormat::bf16, 5, 2, 2);
  const Tensor x = random_normal({2, 4}, 3), y = random_normal({6, 2}, 4);
  const auto both = ops_.linear({{x, &one}, {y, &other}});
  EXPECT_EQ(values_of(both[0]), values_of(ops_.linear(x, one)));
  EXPECT_EQ(values_of(both[1]), values_of(ops_.linear(y, other)));
}

TEST_F(ReferenceLinear, PackedWeightsActAsTheirDequantisedMatrix) {
  for (const WeightFormat format : every_weight_format()) {
    const Linear packed = random_layer(format, 7, 256, 5);
    Tensor dense = host_tensor({7, 256}, DType::f32);
    dequantize_rows(packed.slabs[0].weight, 0, 7, dense.data<float>());
    const Linear plain = {{{dense_weight(dense), packed.slabs[0].bias}}};
    const Tensor x = random_normal({3, 256}, 6);
    EXPECT_EQ(values_of(ops_.linear(x, packed)), values_of(ops_.linear(x, plain))) << layout_of(format).name;
  }
}

TEST_F(ReferenceLinear, SideBranchesAddTheirProductsBeforeTheEpilogue) {
  const SideBranch one = {dense_weight(f32({1, 2}, {1, -1})), dense_weight(f32({2, 1}, {3, 5})), 2};
  const SideBranch two = {dense_weight(f32({2, 2}, {1, 0, 0, 1})), dense_weight(f32({2, 2}, {7, 0, 0, -4})), 0.5f};
  const Linear layer = {{{dense_weight(f32({2, 2}, {1, 2, 3, 4})), f32({2}, {100, 200}), {one, two}},
                         {dense_weight(f32({1, 2}, {1, 1})), {}}}};
  // x = (2, 1): W x = (4, 10); one: 2 (2 - 1) (3, 5) = (6, 10); two: 0.5 (14, -4) = (7, -2)
  const Tensor residual = f32({1, 3}, {1000, 2000, 3000});
  EXPECT_THAT(values_of(ops_.linear(f32({1, 2}, {2, 1}), layer, {.residual = residual})),
              ElementsAre(1117, 2218, 3003));
}

}  // namespace
}  // namespace inkstone
