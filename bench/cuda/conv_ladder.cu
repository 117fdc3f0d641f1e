// The decoder's widest convolutions at full size: weights fetched for every tile, and weights that stay in shared
// memory.
//
// Reference: a kernel that gathers what each tap sees, then a norm of its own. Versions: boxes, resident weights.
#include <cmath>
#include <cstdio>
#include <vector>

#include "cuda/launch.h"
#include "ladder.h"
#include "rounding.cuh"

namespace {

using namespace ladder;
using namespace inkstone::cuda;
using inkstone::DType;

constexpr int kKernelTaps = 9, kSummedTaps = 16;
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

  double error(void (*version)(const ConvolutionProduct&, cudaStream_t)) {
    out_.poison();
    const ConvolutionProduct p = product();
    version(p, nullptr);
    Buffer<double> sums(2);
    must(cudaMemset(sums.data(), 0, sums.bytes()), "checking");
    constexpr unsigned kBlocks = 1024;
    compare<<<kBlocks, kThreads>>>(sums.data(), out_.data(), p.out.type == DType::bf16, right_.data(), kind_.outputs());
    double host[2] = {};
    must(cudaMemcpy(host, sums.data(), sizeof(host), cudaMemcpyDefault), "checking");
    return std::sqrt(host[0] / host[1]);
  }

 private:
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
  if (suits_boxes(product)) versions.push_back({"boxes", conv2d_boxes});
  if (suits_resident(product)) versions.push_back({"resident weights", conv2d_resident});
  std::vector<Step> steps;
  for (const Version& version : versions) {
    const double error = problem.error(version.run);
    std::printf("  %-28s error %.2e\n", version.name, error);
    must(error < kAllowedError, std::string(version.name) + ": the error is too large");  // NaN is not less either
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
  measure({.side = 512, .in = 192, .out = 192, .residual = true});
  measure({.side = 512, .in = 192, .out = 192, .norm = true});
  measure({.side = 256, .in = 384, .out = 384, .residual = true});
}
