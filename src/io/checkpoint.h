// The tensors of one component (transformer, text encoder, vae), however its files are cut and named.
#pragma once
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "io/scheme.h"

namespace inkstone {

/// What ends the name of a layer's matrix or kernel.
inline constexpr std::string_view kWeightSuffix = ".weight";

/// Matrices of low rank that stand beside a layer's weights: factor * up down is added to them.
struct StoredBranch {
  StoredTensor down;  ///< (rank, in)
  StoredTensor up;    ///< (out, rank)
  float factor = 1;
};

/// All tensors of a component under canonical names, which are those of diffusers with the text encoder's old prefixes
/// (`model.layers.0...`). A packed layer X keeps its several tensors (X.weight, X.scales, ...).
struct Checkpoint {
  std::filesystem::path path;    ///< the folder or file that was opened
  std::filesystem::path lender;  ///< folder whose config.json holds if there is none beside the weights; may be empty
  Component component = Component::transformer;
  const Scheme* scheme = &diffusers_scheme();
  TensorMap tensors;
  std::vector<std::filesystem::path> files;
  nlohmann::json metadata;  ///< of a GGUF file, but for its tokenizer: an object; else null
  std::map<std::string, std::vector<StoredBranch>> branches;  ///< by layer; see attach_lora()

  /// Null if there is none of this name.
  const StoredTensor* find(std::string_view name) const;

  /// The matrix of layer `layer` (without `.weight`) if it is blocks or the scheme packs it. Throws Error as
  /// Scheme::packed does.
  std::optional<PackedWeight> packed(const std::string& layer) const;

  /// The shape that a tensor has in diffusers' files, whatever the layout or packing here: (out, in) of a packed
  /// `X.weight`, (out, in, kernel...) of a convolution. Empty if there is no such tensor.
  std::optional<Shape> shape_of(const std::string& name) const;

  /// Whether matrices lie in the order of the cpu's kernels (ops/mixed_codes.h).
  bool has_mixed() const;

  /// Takes the mapped tensors out of resident memory, see MappedFile::release_pages().
  void release_pages() const;

  /// Throws Error naming a mapped file, those of LoRAs included, that changed, see MappedFile::check_unchanged().
  void check_unchanged() const;
};

/// Opens a component: a folder with an index and shards, with one file, or with mflux's 0.safetensors...; or one file.
/// Files are safetensors or GGUF, told by their first bytes, and may hold other components too. Detects the scheme from
/// the tensors' names. Throws Error for missing shards, tensors that the index and the shards do not agree on, a broken
/// index, two files that hold the same tensor, no weights at all, and a transformer of another family.
Checkpoint open_checkpoint(const std::filesystem::path& path, Component component);

}  // namespace inkstone
