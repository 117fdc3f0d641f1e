#include "cpu/gemm.h"

#include <oneapi/dnnl/dnnl.h>
#include <string_view>

#include "core/error.h"

// Declared here since a compiler's omp.h may belong to another runtime than the one that oneDNN is linked to.
extern "C" {
int omp_get_max_threads(void);
void omp_set_num_threads(int threads);
}

namespace inkstone {
namespace {

std::string_view instruction_set() {
  const auto has = [](unsigned isa) { return (static_cast<unsigned>(dnnl_get_effective_cpu_isa()) & isa) == isa; };
  if (has(dnnl_cpu_isa_avx512_core)) return "AVX-512";
  if (has(dnnl_cpu_isa_avx2)) return "AVX2";
  return has(dnnl_cpu_isa_sse41) ? "SSE4.1" : "baseline";
}

}  // namespace

OneDnnOnThisThread::OneDnnOnThisThread() : threads_before_(omp_get_max_threads()) { omp_set_num_threads(1); }
OneDnnOnThisThread::~OneDnnOnThisThread() { omp_set_num_threads(threads_before_); }

void gemm(const Gemm& g) {
  const float beta = g.accumulate ? 1.0f : 0.0f;
  const dnnl_status_t status =
      dnnl_sgemm('N', 'T', g.m, g.n, g.k, 1.0f, g.x, g.x_stride, g.w, g.w_stride, beta, g.y, g.y_stride);
  check(status == dnnl_success, "oneDNN: a product ({}, {}) x ({}, {}) failed with status {}", g.m, g.k, g.k, g.n,
        static_cast<int>(status));
}

std::string describe_onednn() {
  const dnnl_version_t* v = dnnl_version();
  return fmt::format("oneDNN {}.{}.{}, {}", v->major, v->minor, v->patch, instruction_set());
}

}  // namespace inkstone
