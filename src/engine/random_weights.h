// Weights that no file holds, made fast, so that full-size layers can be measured on any machine.
#pragma once
#include <cstdint>
#include <string_view>

#include "core/thread_pool.h"
#include "io/weight_loader.h"

namespace inkstone {

/// How RandomWeights holds matrices. Convolutions have no packed form: they are bf16 beside packed matrices. The last
/// two lie in the order of the cpu's kernels where the published model's matrices can, by their names.
enum class RandomFormat : uint8_t { f32, f16, bf16, fp8, int4, int8, int4_cpu, int8_cpu };

/// From "f32", "f16", "bf16", "fp8", "int4", "int8", "int4_cpu", "int8_cpu"; Error names these.
RandomFormat random_format(std::string_view name);

/// Whether some matrices are only for the cpu.
inline bool is_for_cpu(RandomFormat format) {
  return format == RandomFormat::int4_cpu || format == RandomFormat::int8_cpu;
}

/// Bytes of a matrix (out, in) of RandomWeights, as its name has it lie.
size_t random_matrix_bytes(RandomFormat format, const std::string& name, int64_t out, int64_t in);

/// A WeightLoader of any names and shapes. Numbers are spread evenly over +-[s, 2s], with s so that a layer's outputs
/// are about as large as its inputs; vectors are ones. Packed matrices have groups of 64 and bf16 scales; where the
/// inputs do not divide into groups they are bf16. fp8 is E4M3 with a scale for each output.
class RandomWeights final : public WeightLoader {
 public:
  RandomWeights(Device& device, RandomFormat format, int threads, std::stop_token stop = {});

  Linear linear(const std::vector<SlabName>& slabs, int64_t in, Bias bias) override;
  Weight table(const std::string& name, int64_t rows, int64_t width) override;
  Tensor vector(const std::string& name, int64_t n) override;
  Conv2d conv2d(const std::string& name, int64_t out, int64_t in) override;

  /// Numbers of size 1 on the device, to feed a model with; not counted in bytes().
  Tensor activations(const Shape& shape);

  /// Of all weights made so far.
  size_t bytes() const { return bytes_; }

 private:
  Weight matrix(const std::string& name, int64_t out, int64_t in);
  Weight mixed(int64_t out, int64_t in);
  Weight scaled_fp8(int64_t out, int64_t in);
  Tensor numbers(const Shape& shape, DType type, int64_t inputs);  ///< on the host
  Tensor filled(const Shape& shape, float value);                  ///< likewise
  Tensor ones(int64_t n);                                          ///< likewise
  Tensor counted(const Tensor& host);

  Device& device_;
  Checkpoint no_files_;
  RandomFormat format_;
  ThreadPool pool_;
  uint32_t tensors_ = 0;
  size_t bytes_ = 0;
};

}  // namespace inkstone
