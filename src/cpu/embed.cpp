#include <algorithm>

#include "cpu/cpu_kernels.h"
#include "cpu/weight_panel.h"

namespace inkstone {
namespace {

constexpr int64_t kRowsPerTask = 16;

}  // namespace

void CpuKernels::embed(Tensor& out, const Weight& table, const Tensor& ids) {
  const int64_t rows = ids.dim(0);
  const int64_t width = table.in;
  pool_.run((rows + kRowsPerTask - 1) / kRowsPerTask, [&](int64_t index, int) {
    const int64_t end = std::min((index + 1) * kRowsPerTask, rows);
    for (int64_t row = index * kRowsPerTask; row < end; ++row) {
      const int64_t id = ids.data<const int32_t>()[row];
      expand_row(table, vector_.expander, id, 0, width, out.data<float>() + row * width);
    }
  });
}

}  // namespace inkstone
