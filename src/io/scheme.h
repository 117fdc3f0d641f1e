// Whose names, layouts and packings a component's files use.
//
// A new family of files, or a new packed format, is one source file that defines a Scheme and one line in schemes().
#pragma once
#include <array>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "io/safetensors.h"
#include "ops/weight.h"

namespace inkstone {

enum class Component : uint8_t { transformer, text_encoder, vae };

std::string_view name_of(Component component);  ///< "transformer", "text_encoder", "vae": also the folder's name

/// A matrix that several tensors hold.
struct PackedWeight {
  Weight weight;
  std::vector<std::string> parts;  ///< canonical names of those tensors
};

/// Gives the canonical name of a stored one; empty for a tensor that holds no weights of this component, such as a
/// table of RoPE angles.
using Renaming = std::function<std::string(std::string_view stored)>;

struct Scheme {
  std::string_view name;

  /// Convolutions are stored as (out, kernel..., in) instead of (out, in, kernel...).
  bool channels_last = false;

  /// Whether a component's stored tensors look like this scheme's.
  bool (*recognises)(Component component, const TensorMap& stored) = nullptr;

  Renaming (*renaming)(Component component, const TensorMap& stored) = nullptr;

  /// The matrix of layer `layer` (canonical, without `.weight`) if it is packed; null if the scheme packs nothing.
  /// Throws Error naming file and tensor for one that is incomplete or misshapen.
  std::optional<PackedWeight> (*packed)(const TensorMap& tensors, const std::string& layer) = nullptr;
};

/// The names of diffusers and transformers: the canonical ones. Text encoders may also have the newer prefixes or those
/// of all-in-one files.
const Scheme& diffusers_scheme();

/// What `inkstone quantize` writes: canonical names, matrices in affine groups of any size, or in fp8 as ComfyUI has
/// them (docs/formats.md).
const Scheme& quantized_scheme();

/// What ends the name of the tensor that only matrices in the order of the cpu's kernels have.
inline constexpr std::string_view kMixedFactors = ".factors";

/// mflux: other names, matrices packed in affine groups, channels-last convolutions.
const Scheme& mlx_scheme();

/// ComfyUI: single files with prefixes, one or all components in a file, Wan's names for the VAE, and
/// scaled fp8.
const Scheme& comfy_scheme();

/// llama.cpp's names of a text encoder.
const Scheme& llama_scheme();

/// Every scheme; the first that recognises a component's tensors is the one.
inline std::array<const Scheme*, 5> schemes() {
  return {&quantized_scheme(), &mlx_scheme(), &llama_scheme(), &comfy_scheme(), &diffusers_scheme()};
}

/// The tensor under a canonical name, null if there is none.
const StoredTensor* find(const TensorMap& tensors, std::string_view name);

/// How errors name a tensor: `FILE: tensor "STORED"`, followed by the canonical name where that differs.
std::string describe(const StoredTensor& tensor, std::string_view canonical);

inline bool is_fp8(DType type) { return type == DType::f8_e4m3 || type == DType::f8_e5m2; }

/// Throws Error unless a tensor's type is one that scales may have: f32, f16, bf16.
void check_scale_type(const StoredTensor& tensor, std::string_view canonical);

/// Throws Error unless a tensor's type is one that weights may have.
void check_weight_type(const StoredTensor& tensor, std::string_view canonical);

/// Replaces the first `from` in `name`, if there is one.
std::string with_replaced(std::string name, std::string_view from, std::string_view to);

}  // namespace inkstone
