// Stands in for src/cuda where no CUDA compiler was found.
#include "core/option_error.h"
#include "cuda/cuda_device.h"

namespace inkstone {

CudaFindings find_cuda(int index) { return {.index = index}; }

std::unique_ptr<Device> make_cuda_device(const CudaOptions& options) {
  fail_option("device {}: {}", cuda_option(options.index), why_no_cuda(options.index));
}

}  // namespace inkstone
