// The tensors of one component (transformer, text encoder, vae), however its files are cut and named.
#pragma once
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "io/safetensors.h"

namespace inkstone {

enum class Component : uint8_t { transformer, text_encoder, vae };

std::string_view name_of(Component component);  ///< "transformer", "text_encoder", "vae": also the folder's name

/// Whose names and layouts the files use.
enum class Scheme : uint8_t {
  diffusers,
  mlx,  ///< mflux: other names, packed weights, channels-last convolutions (specification 1.9)
};

/// All tensors of a component under canonical names, which are those of diffusers with the text encoder's old prefixes
/// (`model.layers.0...`). In the mlx scheme a packed layer X keeps its three tensors X.weight, X.scales, X.biases.
struct Checkpoint {
  std::filesystem::path path;        ///< the folder or file that was opened
  Component component = Component::transformer;
  Scheme scheme = Scheme::diffusers;
  TensorMap tensors;
  std::vector<std::filesystem::path> files;

  /// Null if there is none of this name.
  const StoredTensor* find(std::string_view name) const;
};

/// Opens a component: a folder with an index and shards, with one safetensors file, or with mflux's 0.safetensors...;
/// or one safetensors file. Detects the scheme from the tensors' names. Throws Error for missing shards, tensors that the
/// index and the shards do not agree on, a broken index, two files that hold the same tensor, no weights at all.
Checkpoint open_checkpoint(const std::filesystem::path& path, Component component);

}  // namespace inkstone
