#include "onednn.h"

#include <cstring>
#include <oneapi/dnnl/dnnl.hpp>
#include <unordered_map>

#include "core/error.h"

// Declared here since a compiler's omp.h may belong to another runtime than the one that oneDNN is linked to.
extern "C" {
int omp_get_max_threads(void);
void omp_set_num_threads(int threads);
}

namespace inkstone {

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
  using dnnl::memory;
  State& s = *state_;
  const auto f32 = memory::data_type::f32;
  const auto picture = [&](const Tensor& t) {
    return memory::desc({t.dim(0), t.dim(3), t.dim(1), t.dim(2)}, f32, memory::format_tag::nhwc);
  };
  const memory::dims sizes = {weight.dim(0), weight.dim(3), 3, 3};
  const dnnl::convolution_forward::primitive_desc description({dnnl::prop_kind::forward_inference,
                                                               dnnl::algorithm::convolution_direct,
                                                               picture(x),
                                                               memory::desc(sizes, f32, memory::format_tag::any),
                                                               picture(out),
                                                               {1, 1},
                                                               {1, 1},
                                                               {1, 1}},
                                                              s.engine);
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
  using dnnl::memory;
  constexpr float kScale = 0.01f;
  constexpr int kCode = 3;
  State& s = *state_;
  const memory::desc x({m, k}, memory::data_type::u8, memory::format_tag::ab),
      w({k, n}, memory::data_type::s8, memory::format_tag::any),
      y({m, n}, memory::data_type::f32, memory::format_tag::ab);
  dnnl::primitive_attr attributes;
  attributes.set_output_scales(0, {kScale});
  const dnnl::matmul::primitive_desc description({x, w, y}, attributes, s.engine);
  s.product = dnnl::matmul(description);
  s.arguments = {{DNNL_ARG_SRC, memory(x, s.engine)},
                 {DNNL_ARG_WEIGHTS, memory(description.weights_desc(), s.engine)},
                 {DNNL_ARG_DST, memory(y, s.engine)}};
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
