// Matrix products by cuBLASLt. The library is loaded when a device is made: a program built with CUDA starts without
// it.
#pragma once
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "cuda/launch.h"

namespace inkstone {

/// d (rows, outs) = factor * x (rows, depth) wᵀ + added + bias, then GELU. All row-major; `stride` is from row to row,
/// `step` from one product of a batch to the next, both in elements.
struct Product {
  struct Operand {
    const void* data = nullptr;
    int64_t stride = 0;
    int64_t step = 0;
    const float* scales = nullptr;  ///< with F8_E4M3: what to multiply each row with
  };

  DType type = DType::f32;  ///< of x and w: f32, bf16 or F8_E4M3; sums are f32 without TF32
  int64_t rows = 0, outs = 0, depth = 0;
  Operand x, w;          ///< w (outs, depth)
  bool upright = false;  ///< w is (depth, outs) instead
  cuda::Output d;
  int64_t d_stride = 0, d_step = 0;
  const void* bias = nullptr;   ///< (outs) of d's type; bf16 with F8_E4M3
  bool gelu = false;            ///< the tanh form
  const void* added = nullptr;  ///< like d; may be d itself
  float factor = 1;
  int64_t batch = 1;
};

class Cublas {
 public:
  /// Why the library cannot be opened; empty if it can.
  static std::string why_missing();

  /// Throws Error if the library is not there.
  Cublas();
  ~Cublas();

  /// `workspace`: kWorkspaceBytes of device memory that no product of another stream uses.
  void multiply(const Product& product, cudaStream_t stream, void* workspace);

  /// Whether library and device multiply F8_E4M3 with a scale for each row. `room`: any device memory.
  bool has_row_scales(void* room);

  static constexpr size_t kWorkspaceBytes = size_t{64} << 20;

 private:
  struct Library;
  struct Plan;
  using Plans = std::map<std::vector<int64_t>, std::unique_ptr<Plan>>;  ///< by sizes, types and alignments
  static uint64_t last_use_of(const Plans::value_type& plan);
  /// Stays valid until the next call.
  Plan& plan_for(const Product& product);

  std::unique_ptr<Library> library_;
  Plans plans_;
  uint64_t uses_ = 0;
};

}  // namespace inkstone
