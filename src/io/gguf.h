// The GGUF format, versions 2 and 3. https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
#pragma once
#include <nlohmann/json.hpp>
#include <vector>

#include "io/stored_tensor.h"

namespace inkstone {

/// One tensor of a header; its bytes are [begin, end) of the file.
struct GgufEntry {
  std::string name;
  DType dtype = DType::f32;            ///< U8 for blocks
  std::optional<WeightFormat> blocks;  ///< how its numbers are packed
  Shape shape;                         ///< outermost first, as PyTorch has it; of blocks: (rows, bytes of a row)
  size_t begin = 0;
  size_t end = 0;
};

struct GgufHeader {
  std::vector<GgufEntry> entries;  ///< in the order of their bytes
  nlohmann::json metadata;         ///< an object: keys such as "general.architecture", with numbers, texts and arrays
};

struct GgufFile {
  TensorMap tensors;
  nlohmann::json metadata;
};

/// Whether a file begins as a GGUF file does.
bool is_gguf(std::span<const std::byte> bytes);

/// Checks a whole file: version, counts, names, types, sizes, alignment, offsets within the data, no overlaps, no gaps
/// beyond the alignment. Throws Error that names `file`, key or tensor, and what is wrong.
GgufHeader parse_gguf(std::span<const std::byte> bytes, const std::filesystem::path& file);

/// Maps a file and checks it with parse_gguf. Tensors share the mapping.
GgufFile read_gguf(const std::filesystem::path& path);

}  // namespace inkstone
