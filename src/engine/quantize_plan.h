// What becomes of each tensor of a component that is quantized, and which file it goes to.
#pragma once
#include <string>
#include <vector>

#include "inkstone/quantize.h"

#include "engine/quantize_layout.h"
#include "io/checkpoint.h"

namespace inkstone {

/// What ComfyUI has beside a layer in fp8.
inline constexpr std::string_view kFp8Description = R"({"format":"float8_e4m3fn"})";

/// Inputs that share a scale where QuantizeOptions tell no other number.
inline constexpr int64_t kUsualGroup = 64;

/// Whether a text matches a pattern, where `*` stands for any text.
bool matches(std::string_view pattern, std::string_view text);

/// What a matrix is converted to.
enum class Target : uint8_t { stored, f32, bf16, fp8, int8, int4 };

std::string_view name_of(Target target);

/// Which target a tensor has by its name. Throws Error for unknown formats and groups.
class TargetRules {
 public:
  explicit TargetRules(const QuantizeOptions& options);

  Target target_of(const std::string& name) const;
  int64_t group() const { return group_; }
  bool for_cpu() const { return for_cpu_; }

 private:
  std::vector<std::pair<std::string, Target>> rules_;  ///< pattern and target; the last that matches counts
  int64_t group_;
  bool for_cpu_;
};

/// One tensor of the source, or a packed matrix of several.
struct TensorPlan {
  std::string name;
  Target target = Target::stored;               ///< `stored`: the bytes are copied
  Weight matrix;                                ///< if it is converted
  Tensor stored;                                ///< if it is copied
  int64_t group = 0;                            ///< with int8 and int4
  std::vector<float> importance;                ///< likewise: of each input; empty: all alike
  std::shared_ptr<MixedLayer> mixed = nullptr;  ///< of codes in the order of the cpu's kernels
  std::vector<SafetensorsEntry> outputs;        ///< names, types and shapes

  size_t source_bytes() const { return target == Target::stored ? stored.bytes() : bytes_of(matrix); }
  size_t bytes() const;  ///< of the outputs
};

struct ComponentPlan {
  std::vector<std::vector<TensorPlan>> shards;
  std::vector<std::string> notes;

  size_t source_bytes() const;
  size_t bytes() const;
  int64_t numbers() const;  ///< of the matrices that are converted
  bool has_mixed() const;   ///< any in the order of the cpu's kernels
};

/// Leaves out what no picture needs, and keeps matrices whose rows do not divide into groups. Throws Error for packed
/// matrices that are broken.
ComponentPlan plan_component(const Checkpoint& files, const TargetRules& rules);

}  // namespace inkstone
