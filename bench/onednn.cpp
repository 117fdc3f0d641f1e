#include "onednn.h"

#include <cstring>
#include <oneapi/dnnl/dnnl.hpp>
#include <oneapi/dnnl/dnnl_version.h>
#include <unordered_map>

#include "core/error.h"

// Declared here since a compiler's omp.h may belong to another runtime than the one that oneDNN is linked to.
extern "C" {
int omp_get_max_threads(void);
void omp_set_num_threads(int threads);
}

namespace inkstone {
namespace {

using dnnl::memory;

constexpr float kScale = 0.01f;

// Debian 12 has version 2, Ubuntu 24.04 version 3, which took the descriptors of operations away.
dnnl::convolution_forward::primitive_desc describe_convolution(const dnnl::engine& engine, const memory::desc& x,
                                                               const memory::desc& w, const memory::desc& y) {
  constexpr auto kKind = dnnl::prop_kind::forward_inference;
  constexpr auto kWay = dnnl::algorithm::convolution_direct;
  const memory::dims ones = {1, 1};  // strides, and the padding of both sides
#if DNNL_VERSION_MAJOR >= 3
  return {engine, kKind, kWay, x, w, y, ones, ones, ones};
#else
  return {{kKind, kWay, x, w, y, ones, ones, ones}, engine};
#endif
}

/// A product that is multiplied by kScale. Version 3 reads the factor when it runs: from `arguments`.
dnnl::matmul::primitive_desc describe_scaled_product(const dnnl::engine& engine, const memory::desc& x,
                                                     const memory::desc& w, const memory::desc& y,
                                                     [[maybe_unused]] std::unordered_map<int, memory>& arguments) {
  dnnl::primitive_attr attributes;
#if DNNL_VERSION_MAJOR >= 3
  attributes.set_scales_mask(DNNL_ARG_WEIGHTS, 0);
  memory scale({{1}, memory::data_type::f32, memory::format_tag::x}, engine);
  *static_cast<float*>(scale.get_data_handle()) = kScale;
  arguments[DNNL_ARG_ATTR_SCALES | DNNL_ARG_WEIGHTS] = scale;
  return {engine, x, w, y, attributes};
#else
  attributes.set_output_scales(0, {kScale});
  return {{x, w, y}, attributes, engine};
#endif
}

}  // namespace

void gemm(const Gemm& g) {
  const float beta = g.accumulate ? 1.0f : 0.0f;
  const dnnl_status_t status =
      dnnl_sgemm('N', 'T', g.m, g.n, g.k, 1.0f, g.x, g.x_stride, g.w, g.w_stride, beta, g.y, g.y_stride);
  check(status == dnnl_success, "oneDNN: a product ({}, {}) x ({}, {}) failed with status {}", g.m, g.k, g.k, g.n,
        static_cast<int>(status));
}

OneDnnThreads::OneDnnThreads(int threads) : threads_before_(omp_get_max_threads()) { omp_set_num_threads(threads); }
OneDnnThreads::~OneDnnThreads() { omp_set_num_threads(threads_before_); }

struct OneDnnConvolution::State {
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
  dnnl::convolution_forward convolution;
  std::unordered_map<int, dnnl::memory> arguments;
};

OneDnnConvolution::OneDnnConvolution(const Tensor& x, const Tensor& weight, const Tensor& out)
    : state_(std::make_unique<State>()) {
  State& s = *state_;
  const auto f32 = memory::data_type::f32;
  const auto picture = [&](const Tensor& t) {
    return memory::desc({t.dim(0), t.dim(3), t.dim(1), t.dim(2)}, f32, memory::format_tag::nhwc);
  };
  const memory::dims sizes = {weight.dim(0), weight.dim(3), 3, 3};
  const auto description =
      describe_convolution(s.engine, picture(x), memory::desc(sizes, f32, memory::format_tag::any), picture(out));
  memory given({sizes, f32, memory::format_tag::ohwi}, s.engine, weight.data<float>());
  memory liked(description.weights_desc(), s.engine);
  dnnl::reorder(given, liked).execute(s.stream, given, liked);
  s.convolution = dnnl::convolution_forward(description);
  s.arguments = {{DNNL_ARG_SRC, memory(picture(x), s.engine, x.data<float>())},
                 {DNNL_ARG_WEIGHTS, liked},
                 {DNNL_ARG_DST, memory(picture(out), s.engine, out.data<float>())}};
}

OneDnnConvolution::~OneDnnConvolution() = default;

void OneDnnConvolution::run() {
  state_->convolution.execute(state_->stream, state_->arguments);
  state_->stream.wait();
}

struct OneDnnInt8Product::State {
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
  dnnl::matmul product;
  std::unordered_map<int, dnnl::memory> arguments;
};

OneDnnInt8Product::OneDnnInt8Product(int64_t m, int64_t n, int64_t k) : state_(std::make_unique<State>()) {
  constexpr int kCode = 3;
  State& s = *state_;
  const memory::desc x({m, k}, memory::data_type::u8, memory::format_tag::ab),
      w({k, n}, memory::data_type::s8, memory::format_tag::any),
      y({m, n}, memory::data_type::f32, memory::format_tag::ab);
  const auto description = describe_scaled_product(s.engine, x, w, y, s.arguments);
  s.product = dnnl::matmul(description);
  s.arguments[DNNL_ARG_SRC] = memory(x, s.engine);
  s.arguments[DNNL_ARG_WEIGHTS] = memory(description.weights_desc(), s.engine);
  s.arguments[DNNL_ARG_DST] = memory(y, s.engine);
  for (const int argument : {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS}) {
    const memory& codes = s.arguments.at(argument);
    std::memset(codes.get_data_handle(), kCode, codes.get_desc().get_size());
  }
}

OneDnnInt8Product::~OneDnnInt8Product() = default;

void OneDnnInt8Product::run() {
  state_->product.execute(state_->stream, state_->arguments);
  state_->stream.wait();
}

}  // namespace inkstone
