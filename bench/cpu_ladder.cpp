// The CPU's products and its attention rung by rung: plain loops, then the kernels of every instruction set that this
// machine has, forced, in f32, in 16 and in 8 bits.
//
//     build/bench/cpu_ladder [--threads N]
//
// Each rung has its error beside the plain loops, its rate, and the share of the peak that its own instructions reach
// in the same run. Weights of the rungs in 8 bits are rounded in every product, or once; f32 rows are rounded in the
// measured time of all lossy rungs.
#include <cstdlib>
#include <cstring>
#include <fmt/format.h>
#include <functional>

#include "cpu/cpu_device.h"
#include "cpu/int8_attention_ops.h"
#include "cpu/int8_ops.h"
#include "cpu/peak.h"
#include "engine/timing.h"
#include "ops/ops.h"
#include "reference/reference_device.h"
#include "relative_error.h"
#include "report.h"

namespace inkstone {
namespace {

constexpr int64_t kRows = 1088, kWidth = 3072;  // out of a block at 512x512 with 64 tokens of text
constexpr int64_t kHeads = 24, kHeadWidth = 128;
constexpr int64_t kReferenceRows = 8;  // of a product; of attention it is one head
constexpr float kWeightSize = 0.02f;
constexpr size_t kKept = size_t{1} << 30;  // bytes: all rounded weights
constexpr double kEnoughSeconds = 1.5;
constexpr size_t kLeastRuns = 3;
constexpr double kGiga = 1e9, kPercent = 100;

/// One line of a table.
struct Rung {
  std::string name;
  CpuOptions options;
  std::function<double(int threads)> peak;
  bool tolerant = false;  ///< the layer may be rounded
};

/// One table.
struct Work {
  double flop = 0;
  Tensor expected;
  std::function<Tensor(Ops&, const Rung&)> run;
  std::function<Tensor(const Tensor& result)> checked;  ///< the part that `expected` is of
};

/// Median.
double seconds_of(const std::function<void()>& run) {
  run();  // pays for page faults, and for weights that are kept
  std::vector<double> seconds;
  double all = 0;
  while (seconds.size() < kLeastRuns || all < kEnoughSeconds) {
    const auto start = Clock::now();
    run();
    seconds.push_back(seconds_since(start));
    all += seconds.back();
  }
  return median(seconds);
}

std::vector<Isa> instruction_sets() {
  std::vector<Isa> all;
  for (const Isa isa : {Isa::scalar, Isa::avx2, Isa::avx_vnni, Isa::avx512})
    if (supports(isa)) all.push_back(isa);
  return all;
}

Rung f32_rung(Isa isa, int threads) {
  return {.name = fmt::format("f32 {}", name_of(isa)),
          .options = {.threads = threads, .isa = isa},
          .peak = [isa](int n) { return measure_f32_peak_of(isa, n); }};
}

Rung int8_rung(Isa isa, int threads, const std::string& what, size_t keep) {
  return {.name = fmt::format("8 bits {}{}", int8_ops(isa).name, what),
          .options = {.threads = threads, .isa = isa, .int8 = true, .keep_rounded = keep},
          .peak = [isa](int n) { return measure_int8_peak_of(isa, n); },
          .tolerant = true};
}

std::vector<Rung> product_rungs(int threads) {
  std::vector<Rung> rungs;
  for (const Isa isa : instruction_sets())
    if (isa != Isa::avx_vnni) rungs.push_back(f32_rung(isa, threads));  // it has avx2's
  for (const Isa isa : instruction_sets())
    for (const HalfKind kind : {HalfKind::bf16, HalfKind::fp16})
      if (const HalfOps* half = half_ops(isa, kind))
        rungs.push_back({.name = fmt::format("{} {}", name_of(kind), name_of(isa)),
                         .options = {.threads = threads, .isa = isa, .half = chosen_half(isa, kind)},
                         .peak = [half](int n) { return measure_half_peak(*half, n); },
                         .tolerant = true});
  for (const Isa isa : instruction_sets()) {
    rungs.push_back(int8_rung(isa, threads, ", weights rounded each time", 0));
    rungs.push_back(int8_rung(isa, threads, ", weights kept", kKept));
  }
  return rungs;
}

std::vector<Rung> attention_rungs(int threads) {
  std::vector<Rung> rungs;
  for (const Isa isa : instruction_sets())
    if (isa != Isa::avx_vnni) rungs.push_back(f32_rung(isa, threads));
  for (const Isa isa : instruction_sets())
    if (int8_attention_ops(int8_ops(isa)) != nullptr) rungs.push_back(int8_rung(isa, threads, "", 0));
  return rungs;
}

void print_line(const std::string& name, double seconds, double rate, const std::string& rest) {
  fmt::print("  {:44} {:10.2f} ms {:9.1f} GOP/s{}\n", name, seconds * 1e3, rate / kGiga, rest);
  std::fflush(stdout);
}

/// Returns whether every rung's result is near to the plain loops'.
bool climb(const Work& work, const std::vector<Rung>& rungs) {
  constexpr double kMostError = 1e-5, kMostRounding = 0.03;
  bool good = true;
  for (const Rung& rung : rungs) {
    const auto device = make_cpu_device(rung.options);
    Ops ops(*device);
    const double peak_before = rung.peak(rung.options.threads);
    Tensor result;
    const double seconds = seconds_of([&] { result = work.run(ops, rung); });
    const double peak = std::max(peak_before, rung.peak(rung.options.threads));
    const double rate = work.flop / seconds, error = relative_error(work.checked(result), work.expected);
    good = good && error < (rung.tolerant ? kMostRounding : kMostError);
    print_line(rung.name, seconds, rate,
               fmt::format(" {:5.1f} % of {:7.1f}, error {:.2g}", kPercent * rate / peak, peak / kGiga, error));
  }
  return good;
}

bool climb_product(int threads) {
  fmt::print("{} rows {} -> {}, {} threads\n", kRows, kWidth, kWidth, threads);
  const Tensor x = repeated_normal({kRows, kWidth}, 1);
  const Weight weight = dense_weight(repeated_normal({kWidth, kWidth}, 2, kWeightSize));
  const auto plain = make_reference_device();
  Ops reference(*plain);
  const auto first_rows = [](const Tensor& t) { return t.rows(0, kReferenceRows); };
  Work work = {.flop = 2.0 * static_cast<double>(kRows * kWidth * kWidth), .checked = first_rows};
  const auto start = Clock::now();
  work.expected = reference.linear(first_rows(x), Linear{{{weight}}});
  const double seconds = seconds_since(start), part = static_cast<double>(kReferenceRows) / kRows;
  print_line(fmt::format("plain loops in f64, {} rows, one thread", kReferenceRows), seconds,
             work.flop * part / seconds, "");
  // A layer for each rung, as devices keep what they make of it there.
  std::string rung_of_layer;
  Linear layer;
  work.run = [&](Ops& ops, const Rung& rung) {
    if (rung_of_layer != rung.name) {
      layer = {{{weight}}};
      if (rung.tolerant) layer.tolerance = std::make_shared<Tolerance>();
      rung_of_layer = rung.name;
    }
    return ops.linear(x, layer);
  };
  return climb(work, product_rungs(threads));
}

/// Columns of the first head.
Tensor first_head(const Tensor& t) {
  const Tensor head = host_tensor({t.dim(0), kHeadWidth}, DType::f32);
  const int64_t width = t.count() / t.dim(0);
  for (int64_t row = 0; row < t.dim(0); ++row)
    std::copy_n(t.data<const float>() + row * width, kHeadWidth, head.data<float>() + row * kHeadWidth);
  return head;
}

bool climb_attention(int64_t tokens, int threads) {
  fmt::print("attention, {} tokens, {} heads of {}, {} threads\n", tokens, kHeads, kHeadWidth, threads);
  const Shape shape = {tokens, kHeads, kHeadWidth};
  const Qkv in = {.q = random_normal(shape, 1),
                  .k = random_normal(shape, 2),
                  .v = random_normal(shape, 3),
                  .sequences = {{Sequences::equal(1, tokens)}}};
  const auto n = static_cast<double>(tokens);
  Work work = {.flop = 4 * n * n * static_cast<double>(kHeads * kHeadWidth), .checked = first_head};
  const auto plain = make_reference_device();
  Ops reference(*plain);
  const auto head = [&](const Tensor& t) { return first_head(t).reshape({tokens, 1, kHeadWidth}); };
  const auto start = Clock::now();
  work.expected = first_head(
      reference.attention({.q = head(in.q), .k = head(in.k), .v = head(in.v), .sequences = in.sequences}).front());
  const double seconds = seconds_since(start);
  print_line("plain loops in f64, one head, one thread", seconds, work.flop / kHeads / seconds, "");
  work.run = [&](Ops& ops, const Rung& rung) { return ops.attention(in, {.tolerant = rung.tolerant}).front(); };
  return climb(work, attention_rungs(threads));
}

}  // namespace
}  // namespace inkstone

int main(int argc, char** argv) {
  using namespace inkstone;
  int threads = usable_processors();
  if (argc == 3 && std::strcmp(argv[1], "--threads") == 0) threads = std::atoi(argv[2]);
  if (threads < 1 || (argc != 1 && argc != 3)) {
    fmt::print(stderr, "cpu_ladder: --threads N or nothing is wanted\n");
    return EXIT_FAILURE;
  }
  bool good = climb_product(threads);
  for (const int64_t tokens : {1088, 4160}) good = climb_attention(tokens, threads) && good;
  if (!good) fmt::print(stderr, "cpu_ladder: a rung is not what the plain loops give\n");
  return good ? EXIT_SUCCESS : EXIT_FAILURE;
}
