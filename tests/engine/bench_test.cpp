#include "cpu/int8_ops.h"
#include "cpu/peak.h"
#include "engine/random_weights.h"
#include "engine/tiny_model.h"
#include "ops/dry_device.h"

namespace inkstone {
namespace {

using ::testing::HasSubstr;

TEST(BenchTest, MeasuresTheDecoder) {
  const BenchResult result = run_bench({.kind = BenchKind::vae, .size = 16, .format = "bf16"});
  EXPECT_GT(result.median_s, 0);
  EXPECT_GT(result.gflops, 0);
  EXPECT_GT(result.peak_fraction, 0);
  EXPECT_LT(result.peak_fraction, 1.05);  // both are rates of this machine, measured in the same run
  EXPECT_NEAR(result.gflops * 1e9, result.peak_fraction * result.peak, 1e-6 * result.peak);
  EXPECT_EQ(result.isa, name_of(vector_ops().isa));
  EXPECT_EQ(result.threads, usable_processors());
  // 44.6 million of the VAE's parameters act on a single frame, here in two bytes each.
  EXPECT_GT(result.peak_bytes, 2 * 44'000'000u);
  EXPECT_LT(result.peak_bytes, 2 * 50'000'000u);
}

TEST(BenchTest, CountsWhatIsRoundedBesideThePool) {
  BenchOptions options = {.kind = BenchKind::vae, .size = 64, .format = "bf16"};
  const size_t exact = run_bench(options).peak_bytes;
  options.arithmetic = Arithmetic::int8;
  EXPECT_GT(run_bench(options).peak_bytes, exact + size_t{64} * 64 * 96);  // a picture's codes at the least
}

TEST(BenchTest, RefusesWhatItCannotMeasure) {
  EXPECT_THAT(error_of([] { run_bench({.kind = BenchKind::vae, .format = "f8"}); }), HasSubstr("format \"f8\""));
  EXPECT_THAT(error_of([] { run_bench({.layers = 0}); }), HasSubstr("layers 0"));
  EXPECT_THAT(error_of([] { run_bench({.kind = BenchKind::vae, .layers = 3}); }), HasSubstr("layers 3"));
  EXPECT_THAT(error_of([] { run_bench({.kind = BenchKind::vae, .size = 20}); }),
              HasSubstr("size 20: multiples of 8 work"));
  EXPECT_THAT(error_of([] { run_bench({.size = 24}); }), HasSubstr("size 24: multiples of 16 work"));
  EXPECT_THAT(error_of([] { run_bench({.size = 0}); }), HasSubstr("size 0: 1 to 16383 work"));
  EXPECT_THAT(error_of([] { run_bench({.layers = 61}); }), HasSubstr("layers 61: 1 to 60 work"));
  for (const Arithmetic arithmetic :
       {Arithmetic::int8, Arithmetic::fp8, Arithmetic::fp8_all})  // which leave the encoder in f32
    EXPECT_THAT(error_of([&] { run_bench({.kind = BenchKind::encoder, .arithmetic = arithmetic}); }),
                HasSubstr("int8_all and half round it too"));
}

TEST(BenchTest, TellsOfEveryRunAndStopsWithinOne) {
  std::stop_source source;
  std::vector<std::pair<Stage, int64_t>> told;
  BenchOptions options = {.kind = BenchKind::vae, .size = 16, .format = "bf16", .stop = source.get_token()};
  options.progress = [&](const Progress& p) {
    told.emplace_back(p.stage, p.step);
    EXPECT_GE(p.steps, p.stage == Stage::decode ? 5 : 1);
    if (p.stage == Stage::decode && p.step == 2) source.request_stop();
  };
  EXPECT_THROW(run_bench(options), Cancelled);
  using enum Stage;
  EXPECT_THAT(told, ::testing::ElementsAre(std::pair{load, 0}, std::pair{decode, 0}, std::pair{decode, 1},
                                           std::pair{decode, 2}));
  told.clear();
  EXPECT_THROW(run_bench(options), Cancelled);  // while weights are made
  EXPECT_THAT(told, ::testing::ElementsAre(std::pair{load, 0}));
}

TEST(BenchTest, PeaksAreRatesOfThisMachine) {
  constexpr double kLastCentury = 1e8, kNoCore = 1e14;  // operations a second
  const auto expect_rate = [&](double rate, const std::string& what) {
    EXPECT_GT(rate, kLastCentury) << what;
    EXPECT_LT(rate, kNoCore) << what << ": the compiler left the work out";
  };
  for (const Isa isa : {Isa::scalar, Isa::avx2, Isa::avx_vnni, Isa::avx512}) {
    if (!supports(isa)) continue;
    expect_rate(measure_f32_peak_of(isa, 1), name_of(isa));
    expect_rate(measure_int8_peak_of(isa, 1), int8_ops(isa).name);
    for (const HalfKind kind : {HalfKind::fp16, HalfKind::bf16})
      if (const HalfOps* ops = half_ops(isa, kind)) expect_rate(measure_half_peak(*ops, 1), name_of(kind));
  }
}

/// Mean and mean square of a matrix's numbers.
class RandomWeightsTest : public ::testing::TestWithParam<const char*> {};

TEST_P(RandomWeightsTest, KeepTheSizeOfWhatPassesThrough) {
  constexpr int64_t kOut = 64, kIn = 1024;
  const auto device = make_dry_device();
  RandomWeights random(*device, random_format(GetParam()), 2);
  const std::string name = "transformer_blocks.0.attn.to_q";
  const Linear layer = random.linear({{name, kOut}}, kIn, Bias::present);
  std::vector<float> numbers(static_cast<size_t>(kOut * kIn));
  dequantize_rows(layer.slabs.front().weight, 0, kOut, numbers.data());
  double sum = 0, squares = 0;
  for (const float x : numbers) {
    sum += x;
    squares += x * x;
  }
  const auto n = static_cast<double>(numbers.size());
  EXPECT_NEAR(sum / n, 0, 0.1 / 32);
  EXPECT_GT(squares / n * kIn, 0.2);  // outputs of rows of ones: a variance of about 1
  EXPECT_LT(squares / n * kIn, 2.0);
  EXPECT_EQ(random.bytes(), bytes_of(layer.slabs.front().weight) + kOut * sizeof(float));
  EXPECT_EQ(bytes_of(layer.slabs.front().weight), random_matrix_bytes(random_format(GetParam()), name, kOut, kIn));
  const bool for_cpu = is_for_cpu(random_format(GetParam()));
  EXPECT_EQ(bool(layer.slabs.front().weight.factors), for_cpu);
  EXPECT_FALSE(random.linear({{"transformer_blocks.0.img_mod.1", kOut}}, kIn, Bias::absent).slabs[0].weight.factors);
}

INSTANTIATE_TEST_SUITE_P(Formats, RandomWeightsTest,
                         ::testing::Values("f32", "f16", "bf16", "int4", "int8", "int4_cpu", "int8_cpu"));

}  // namespace
}  // namespace inkstone
