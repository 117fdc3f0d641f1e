// The decoder's widest convolutions at full size: weights fetched for every tile, and weights that stay in shared
// memory.
//
// Reference: f64 of some pixels; for all of them a kernel that gathers what each tap sees, then a norm of its own.
// Versions: that kernel, boxes, resident weights.
#include <cmath>
#include <cstdio>
#include <vector>

#include "cuda/launch.h"
#include "definitions.h"
#include "ladder.h"
#include "rounding.cuh"

namespace {

using namespace ladder;
using namespace inkstone::cuda;
using inkstone::DType;

constexpr int kKernelSide = 3, kKernelTaps = kKernelSide * kKernelSide, kSummedTaps = 16;
constexpr int64_t kCheckedPixels = 100;
constexpr double kAllowedError = 6e-3;  // of results rounded to bf16
constexpr float kEps = 1e-6f;

__global__ void widen(float* to, const __nv_bfloat16* from, int64_t count) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i < count) to[i] = __bfloat162float(from[i]);
}

/// sums[0] += ‖got - right‖², sums[1] += ‖right‖²
__global__ void compare(double* sums, const void* got, bool narrow, const float* right, int64_t count) {
  double difference = 0, whole = 0;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < count; i += int64_t{gridDim.x} * kThreads) {
    const float value =
        narrow ? __bfloat162float(static_cast<const __nv_bfloat16*>(got)[i]) : static_cast<const float*>(got)[i];
    const double off = double{value} - double{right[i]};
    difference += off * off;
    whole += double{right[i]} * double{right[i]};
  }
  atomicAdd(sums, difference);
  atomicAdd(sums + 1, whole);
}

struct Normal : Buffer<__nv_bfloat16> {
  Normal(int64_t numbers, uint64_t seed) : Buffer(static_cast<size_t>(numbers)), count(numbers) {
    fill_normal<<<blocks_of(count), kThreads>>>(data(), count, 1, seed << 40, 1);
    must(cudaGetLastError(), "drawing numbers");
  }
  static unsigned blocks_of(int64_t count) { return static_cast<unsigned>((count + kThreads - 1) / kThreads); }
  int64_t count;
};

struct NormalFloats : Buffer<float> {
  NormalFloats(int64_t count, uint64_t seed) : Buffer(static_cast<size_t>(count)) {
    const Normal narrow(count, seed);
    widen<<<Normal::blocks_of(count), kThreads>>>(data(), narrow.data(), count);
    must(cudaDeviceSynchronize(), "drawing numbers");
  }
};

/// A convolution that gives a square picture.
struct Kind {
  int64_t side, in, out;
  int upsampling = 1;
  bool residual = false, norm = false;

  int64_t outputs() const { return side * side * out; }
  double flop() const {
    const double taps = upsampling == 1 ? kKernelTaps : kSummedTaps / 4;
    return 2 * taps * static_cast<double>(in * outputs());
  }
};

class Problem {
 public:
  explicit Problem(const Kind& kind)
      : kind_(kind),
        x_(kind.side * kind.side * kind.in / (kind.upsampling * kind.upsampling), 1),
        weight_(kind.out * kKernelTaps * kind.in, 2),
        summed_(static_cast<size_t>(kSummedTaps * kind.out * kind.in)),
        bias_(kind.out, 3),
        residual_(kind.residual ? kind.outputs() : 1, 4),
        gamma_(kind.out, 5),
        out_(static_cast<size_t>(kind.outputs())),
        right_(static_cast<size_t>(kind.outputs())) {
    sum_taps(summed_.data(), weight_.data(), kind.out, kind.in, nullptr);
    ConvolutionProduct plain = product();
    plain.weight = weight_.data();
    plain.out = {right_.data(), DType::f32};
    plain.norm = {};
    conv2d_wgmma(plain, nullptr);
    if (kind.norm)
      rms_norm({.out = {right_.data(), DType::f32},
                .x = {right_.data(), DType::f32},
                .weight = gamma_.data(),
                .eps = kEps,
                .activation = inkstone::Activation::silu},
               kind.side * kind.side, kind.out, nullptr);
  }

  ConvolutionProduct product() const {
    const bool narrow = !kind_.residual && kind_.out > 8;  // what only a norm reads
    ConvolutionProduct p = {.shape = {.x = {x_.data(), DType::bf16},
                                      .count = 1,
                                      .height = kind_.side / kind_.upsampling,
                                      .width = kind_.side / kind_.upsampling,
                                      .in = kind_.in,
                                      .out_height = kind_.side,
                                      .out_width = kind_.side,
                                      .out = kind_.out,
                                      .stride = 1,
                                      .upsampling = kind_.upsampling,
                                      .before = 1},
                            .weight = kind_.upsampling == 1 ? weight_.data() : summed_.data(),
                            .bias = bias_.data(),
                            .residual = {},
                            .out = {out_.data(), narrow ? DType::bf16 : DType::f32},
                            .norm = {}};
    if (kind_.residual) p.residual = {residual_.data(), DType::f32};
    if (kind_.norm) p.norm = {gamma_.data(), kEps};
    return p;
  }

  /// Checks a version in all pixels and in some.
  void check(const char* name, void (*version)(const ConvolutionProduct&, cudaStream_t)) {
    out_.poison();
    version(product(), nullptr);
    print_error(std::string(name) + ", by gathering", error_beside_gathering(), kAllowedError);
    const bool narrow = product().out.type == DType::bf16;
    print_error(std::string(name) + ", some in f64", error(out_, narrow), kAllowedError);
  }
  void check_gathering() { print_error("gathering, some in f64", error(right_, false), kAllowedError); }

 private:
  double error_beside_gathering() const {
    const Buffer<double> sums(2);
    must(cudaMemset(sums.data(), 0, sums.bytes()), "checking");
    constexpr unsigned kBlocks = 1024;
    compare<<<kBlocks, kThreads>>>(sums.data(), out_.data(), product().out.type == DType::bf16, right_.data(),
                                   kind_.outputs());
    const std::vector<double> host = sums.host();
    return std::sqrt(host[0] / host[1]);
  }

  /// Of kCheckedPixels pixels, the first and the last among them.
  double error(const Buffer<float>& out, bool narrow) const {
    const std::vector<__nv_bfloat16> weights = weight_.host();
    const auto outs = static_cast<size_t>(kind_.out);
    RelativeError error;
    for (int64_t i = 0; i < kCheckedPixels; ++i) {
      const int64_t pixel = (kind_.side * kind_.side - 1) * i / (kCheckedPixels - 1);
      const size_t first = static_cast<size_t>(pixel) * outs;
      const std::vector<double> right = exact(pixel, weights);
      std::vector<__nv_bfloat16> narrow_got(outs);
      std::vector<float> got(outs);
      if (narrow) {
        const auto* from = reinterpret_cast<const __nv_bfloat16*>(out.data()) + first;
        must(cudaMemcpy(narrow_got.data(), from, outs * sizeof(*from), cudaMemcpyDefault), "checking");
      } else {
        got = out.host(first, outs);
      }
      for (size_t o = 0; o < outs; ++o) error.add(narrow ? value(narrow_got[o]) : value(got[o]), right[o]);
    }
    return error.value();
  }

  /// A pixel's channels by the definition, with all nine taps also where the picture is doubled.
  std::vector<double> exact(int64_t pixel, const std::vector<__nv_bfloat16>& weights) const {
    const int64_t in = kind_.in, small = kind_.side / kind_.upsampling;
    std::vector<double> sums;
    for (const float bias : bias_.host()) sums.push_back(double{bias});
    for (int64_t tap = 0; tap < kKernelTaps; ++tap) {
      const int64_t y = pixel / kind_.side + tap / kKernelSide - 1, x = pixel % kind_.side + tap % kKernelSide - 1;
      if (std::min(x, y) < 0 || std::max(x, y) >= kind_.side) continue;
      const int64_t from = (y / kind_.upsampling * small + x / kind_.upsampling) * in;
      const std::vector<__nv_bfloat16> seen = x_.host(static_cast<size_t>(from), static_cast<size_t>(in));
      for (size_t o = 0; o < sums.size(); ++o)
        for (size_t c = 0; c < seen.size(); ++c)
          sums[o] += value(seen[c]) * value(weights[(o * kKernelTaps + static_cast<size_t>(tap)) * seen.size() + c]);
    }
    return finished(std::move(sums), pixel);
  }

  /// With what follows the sum.
  std::vector<double> finished(std::vector<double> sums, int64_t pixel) const {
    if (kind_.residual) {
      const std::vector<float> added = residual_.host(static_cast<size_t>(pixel) * sums.size(), sums.size());
      for (size_t o = 0; o < sums.size(); ++o) sums[o] += double{added[o]};
    }
    if (kind_.norm) {
      const std::vector<float> gamma = gamma_.host();
      double squares = 0;
      for (const double sum : sums) squares += sum * sum;
      const double root = std::sqrt(squares / static_cast<double>(sums.size()) + double{kEps});
      for (size_t o = 0; o < sums.size(); ++o) sums[o] = silu(sums[o] / root * double{gamma[o]});
    }
    return sums;
  }

  Kind kind_;
  Normal x_, weight_;
  Buffer<__nv_bfloat16> summed_;
  NormalFloats bias_, residual_, gamma_;
  Buffer<float> out_, right_;
};

struct Version {
  const char* name;
  void (*run)(const ConvolutionProduct&, cudaStream_t);
};

void measure(const Kind& kind) {
  Problem problem(kind);
  std::printf("\n%dx%d, %d -> %d%s%s%s\n", static_cast<int>(kind.side), static_cast<int>(kind.side),
              static_cast<int>(kind.in), static_cast<int>(kind.out), kind.upsampling > 1 ? ", doubled" : "",
              kind.residual ? ", residual" : "", kind.norm ? ", norm" : "");
  const ConvolutionProduct product = problem.product();
  std::vector<Version> versions;
  if (kind.residual) versions.push_back({"gathering", conv2d_wgmma});  // it writes f32
  if (suits_boxes(product)) versions.push_back({"boxes", conv2d_boxes});
  if (suits_resident(product)) versions.push_back({"resident weights", conv2d_resident});
  std::vector<Step> steps;
  problem.check_gathering();
  for (const Version& version : versions) {
    problem.check(version.name, version.run);
    steps.push_back({version.name, [run = version.run, product](int) { run(product, nullptr); }});
  }
  print_times(kind.flop(), steps);
}

}  // namespace

int main() {
  print_head();
  for (const int64_t side : {512, 1024}) {
    measure({.side = side, .in = 96, .out = 96});
    measure({.side = side, .in = 96, .out = 96, .residual = true});
    measure({.side = side, .in = 96, .out = 96, .norm = true});
    measure({.side = side, .in = 192, .out = 96, .upsampling = 2});
    measure({.side = side, .in = 96, .out = 3});
  }
  for (const int64_t side : {256, 512}) {
    measure({.side = side, .in = 192, .out = 192, .residual = true});
    measure({.side = side, .in = 192, .out = 192, .norm = true});
    measure({.side = side, .in = 384, .out = 192, .upsampling = 2});
  }
  for (const int64_t side : {64, 128, 256}) {
    measure({.side = side, .in = 384, .out = 384});
    measure({.side = side, .in = 384, .out = 384, .residual = true});
  }
}
