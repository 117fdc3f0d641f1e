// LoRA files: changes of low rank to the layers of a transformer, in every spelling that people publish
// (docs/lora.md; LoRA: https://arxiv.org/abs/2106.09685).
#pragma once
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "io/checkpoint.h"

namespace inkstone {

/// What a file holds for one layer.
struct LoraLayer {
  StoredTensor down;                ///< (rank, in)
  StoredTensor up;                  ///< (out, rank)
  std::optional<double> alpha;      ///< absent: as if it were the rank
  bool root = false;                ///< alpha is divided by the root of the rank (PEFT's use_rslora)
  bool flat = false;                ///< the layer's name has _ for . (kohya's)
  std::vector<std::string> stored;  ///< names of its tensors

  int64_t rank() const { return down.data.dim(0); }
  double factor() const;  ///< of up down: alpha / rank
};

struct Lora {
  std::filesystem::path path;
  /// "diffusers" (transformer.P.lora_A), "comfyui" (diffusion_model.P), "kohya" (lora_unet_P with _ for .),
  /// "peft" (P.lora_A), "bare" (P.lora_down), ... (docs/lora.md)
  std::set<std::string_view> spellings;
  std::map<std::string, LoraLayer, std::less<>> layers;  ///< by the layer's name in diffusers, or that one flattened
  std::vector<std::string> unknown;                      ///< names of tensors that are no part of a layer

  std::string spelling() const;     ///< all of them, joined by +
  std::set<int64_t> ranks() const;  ///< that its layers have
  std::set<double> alphas() const;  ///< that its layers have; empty if none has one
};

/// The name of a layer as kohya's files flatten it.
std::string flattened(std::string_view layer);

/// Reads a safetensors file, and PEFT's adapter_config.json beside a file in its spelling. Throws Error, naming file
/// and tensor, for one that holds no LoRA, half of a pair, two tensors for the same, matrices that do not multiply,
/// types that are no weights, and an alpha that is no number.
Lora read_lora(const std::filesystem::path& path);

/// What to do with tensors that change no layer.
enum class Unmatched : uint8_t { refuse, leave_out };

/// Puts a LoRA's branches beside the layers of a transformer, times `scale`. Returns the names of the tensors that were
/// left out. Throws Error for shapes that do not fit, if no layer matches, and, unless they may be left out, for
/// tensors that belong to no layer, with a list of them.
std::vector<std::string> attach_lora(Checkpoint& transformer, const Lora& lora, double scale, Unmatched unmatched);

}  // namespace inkstone
