#include "cuda/tensor_map.h"

#include <cuda_runtime_api.h>
#include <fmt/ranges.h>

#include "core/error.h"
#include "cuda/cuda_error.h"

namespace inkstone::cuda {
namespace {

/// The driver's function; a program that links the driver would not start without it.
auto encoder() {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found = {};
#if CUDART_VERSION >= 12050
  constexpr unsigned kSince = 12000;
  const cudaError_t status =
      cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, kSince, cudaEnableDefault, &found);
#else
  const cudaError_t status = cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &function, cudaEnableDefault, &found);
#endif
  check(status == cudaSuccess && function != nullptr,
        "device {}: the driver has no cuTensorMapEncodeTiled, install one for CUDA 12.0 or newer",
        current_cuda_device());
  return reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(function);
}

/// As describe() and describe_short() of wgmma.cuh have rows of these bytes.
CUtensorMapSwizzle swizzle_of(size_t row_bytes) {
  constexpr size_t kRow = 128, kShortRow = 64;
  if (row_bytes == kRow) return CU_TENSOR_MAP_SWIZZLE_128B;
  return row_bytes == kShortRow ? CU_TENSOR_MAP_SWIZZLE_64B : CU_TENSOR_MAP_SWIZZLE_NONE;
}

CUtensorMapDataType map_type(DType type) {
  if (type == DType::f8_e4m3) return CU_TENSOR_MAP_DATA_TYPE_UINT8;
  return type == DType::bf16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_FLOAT32;
}

}  // namespace

CUtensorMap tensor_map(const BoxedTensor& tensor) {
  static const auto encode = encoder();
  constexpr cuuint32_t kRank = 4;
  std::array<cuuint64_t, kRank> sizes = {}, strides = {};
  std::array<cuuint32_t, kRank> box = {}, every = {1, 1, 1, 1};
  const DType type = tensor.numbers.type;
  cuuint64_t stride = size_of(type);
  for (size_t i = 0; i < kRank; ++i) {
    sizes[i] = static_cast<cuuint64_t>(tensor.sizes[i]);
    box[i] = static_cast<cuuint32_t>(tensor.box[i]);
    strides[i] = stride *= sizes[i];  // in bytes, of the next dimension
  }
  if (tensor.strides[0] != 0)
    for (size_t i = 0; i + 1 < kRank; ++i) strides[i] = static_cast<cuuint64_t>(tensor.strides[i]) * size_of(type);
  CUtensorMap map = {};
  const CUresult status = encode(&map, map_type(type), kRank, const_cast<void*>(tensor.numbers.data), sizes.data(),
                                 strides.data(), box.data(), every.data(), CU_TENSOR_MAP_INTERLEAVE_NONE,
                                 swizzle_of(static_cast<size_t>(tensor.box[0]) * size_of(type)),
                                 CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  check(status == CUDA_SUCCESS,
        "device {}: the driver describes no tensor of {} {} numbers in boxes of {} (status {}); --dtype f32 without "
        "--arithmetic needs none",
        current_cuda_device(), fmt::join(tensor.sizes, " x "), name_of(type), fmt::join(tensor.box, " x "),
        static_cast<int>(status));
  return map;
}

}  // namespace inkstone::cuda
