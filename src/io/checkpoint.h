// The tensors of one component (transformer, text encoder, vae), however its files are cut and named.
#pragma once
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "io/scheme.h"

namespace inkstone {

/// What ends the name of a layer's matrix or kernel.
inline constexpr std::string_view kWeightSuffix = ".weight";

/// All tensors of a component under canonical names, which are those of diffusers with the text encoder's old prefixes
/// (`model.layers.0...`). A packed layer X keeps its several tensors (X.weight, X.scales, ...).
struct Checkpoint {
  std::filesystem::path path;  ///< the folder or file that was opened
  Component component = Component::transformer;
  const Scheme* scheme = &diffusers_scheme();
  TensorMap tensors;
  std::vector<std::filesystem::path> files;

  /// Null if there is none of this name.
  const StoredTensor* find(std::string_view name) const;

  /// The matrix of layer `layer` (without `.weight`) if the scheme packs it. Throws Error as Scheme::packed does.
  std::optional<PackedWeight> packed(const std::string& layer) const;

  /// The shape that a tensor has in diffusers' files, whatever the layout or packing here: (out, in) of a packed
  /// `X.weight`, (out, in, kernel...) of a convolution. Empty if there is no such tensor.
  std::optional<Shape> shape_of(const std::string& name) const;
};

/// Opens a component: a folder with an index and shards, with one safetensors file, or with mflux's 0.safetensors...;
/// or one safetensors file. Detects the scheme from the tensors' names. Throws Error for missing shards, tensors that
/// the index and the shards do not agree on, a broken index, two files that hold the same tensor, no weights at all.
Checkpoint open_checkpoint(const std::filesystem::path& path, Component component);

}  // namespace inkstone
