// Stands in for src/cuda where no CUDA compiler was found.
#include "core/option_error.h"
#include "cuda/cuda_device.h"

namespace inkstone {

std::string why_no_cuda() {
  return "this program was built without CUDA; run on cpu, or build it where nvcc is installed";
}

std::unique_ptr<Device> make_cuda_device(const CudaOptions&) { fail_option("device cuda: {}", why_no_cuda()); }

}  // namespace inkstone
