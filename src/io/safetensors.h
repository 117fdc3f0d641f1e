// The safetensors format: u64 header length, JSON header, data. https://github.com/huggingface/safetensors
#pragma once
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "core/tensor.h"

namespace inkstone {

/// A tensor as a file holds it: a view into the mapped file, of any dtype.
struct StoredTensor {
  Tensor data;
  std::filesystem::path file;  ///< for error texts
};

using TensorMap = std::map<std::string, StoredTensor, std::less<>>;

struct SafetensorsFile {
  TensorMap tensors;
  std::map<std::string, std::string> metadata;  ///< the header's __metadata__
};

/// Maps a file and checks its whole header: length, JSON, dtypes, shapes, offsets within the data, sizes that agree
/// with shape and dtype, no overlaps, no gaps, no duplicate names. Tensors share the mapping; one whose data is not
/// aligned to its element size is copied. Throws Error that names file, tensor and what is wrong.
SafetensorsFile read_safetensors(const std::filesystem::path& path);

/// Writes host tensors, in name order, to a temporary name in the same folder, then renames.
void write_safetensors(const std::filesystem::path& path, const std::map<std::string, Tensor>& tensors,
                       const std::map<std::string, std::string>& metadata = {});

}  // namespace inkstone
