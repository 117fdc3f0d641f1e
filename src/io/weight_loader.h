// Binds a checkpoint's tensors to layers: checks shapes, hides formats, and notices what was not used.
#pragma once
#include <optional>
#include <set>
#include <stop_token>

#include "io/checkpoint.h"
#include "ops/device.h"

namespace inkstone {

/// What weights are held in, f32 or bf16; without one, as stored.
using HeldType = std::optional<DType>;

/// One matrix of a layer: `name` without `.weight`, and its output features.
struct SlabName {
  std::string name;
  int64_t out = 0;
};

enum class Bias : uint8_t { absent, present };

/// Layers of a checkpoint in a place. Every method throws Error naming file, tensor, and the shapes or dtypes found
/// and needed, and marks what it read as used. Names are the canonical ones (see Checkpoint), errors give the stored
/// ones too; or Cancelled soon after a stop request of `stop`. Virtual, so that models can be given weights that no
/// file holds.
class WeightLoader {
 public:
  WeightLoader(const Checkpoint& checkpoint, WeightPlace& place, HeldType held = std::nullopt,
               std::stop_token stop = {});
  virtual ~WeightLoader() = default;

  /// A layer made of one or more matrices (out, in), dense or packed; kernel axes of size 1 (1x1 convolutions) are
  /// dropped. LoRAs of the checkpoint stand beside them as stored. `held` f32 dequantises exactly; `held` bf16 rounds
  /// dense matrices to bf16 and leaves packed ones and fp8 as they are.
  virtual Linear linear(const std::vector<SlabName>& slabs, int64_t in, Bias bias);
  Linear linear(const std::string& name, int64_t out, int64_t in, Bias bias = Bias::present);

  /// The layer, marked as one that tolerates rounding; the device may have rounded its weights.
  Linear tolerant(Linear layer) const;
  Conv2d tolerant(Conv2d conv) const;

  /// A table (rows, width), `name` with its suffix.
  virtual Weight table(const std::string& name, int64_t rows, int64_t width);

  /// A vector (n) as f32, `name` with its suffix; any shape of n elements. Weights of norms, biases.
  virtual Tensor vector(const std::string& name, int64_t n);

  /// A 3x3 convolution (out, 3, 3, in); `name` without `.weight`. Of a causal 3x3x3 kernel only the last temporal slice
  /// acts on a single frame (QwenImageCausalConv3d of diffusers pads with zeros in front), so only that is kept.
  virtual Conv2d conv2d(const std::string& name, int64_t out, int64_t in);

  /// Names that begin with `prefix` are known and not needed.
  virtual void ignore(const std::string& prefix);

  /// So is this layer: its weight, packed or not, and its bias if it has one.
  void ignore_layer(const std::string& name, Bias bias = Bias::present);

  /// Canonical names of the tensors that nothing used or ignored.
  std::vector<std::string> surplus() const;

  /// Waits until all is in its place. Throws Error naming the first tensor that nothing used or ignored, and how many
  /// there are.
  virtual void finish() const;

 protected:
  const Checkpoint& checkpoint() const { return checkpoint_; }
  void check_stop() const;
  void mark_used(const std::string& name) { used_.insert(name); }
  void mark_used(const PackedWeight& packed) { used_.insert(packed.parts.begin(), packed.parts.end()); }

 private:
  const StoredTensor& need(const std::string& name);
  std::string unused_beside(const std::string& name) const;  // for an error: it may be there under a wrong name
  // On the host:
  Weight matrix(const std::string& layer, int64_t out, int64_t in);
  Tensor numbers(const std::string& name, int64_t n);
  Weight packed_matrix(const std::string& layer, const PackedWeight& packed, int64_t out, int64_t in);
  std::vector<SideBranch> side_branches(const std::string& layer) const;
  Tensor hold(const Tensor& dense) const;
  Tensor converted(const Weight& weight, DType type) const;

  const Checkpoint& checkpoint_;
  WeightPlace& place_;
  HeldType held_;
  std::stop_token stop_;
  std::set<std::string, std::less<>> used_;
  std::vector<std::string> ignored_;
};

}  // namespace inkstone
