// Tensors as files hold them.
#pragma once
#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include "core/tensor.h"
#include "ops/weight_format.h"

namespace inkstone {

/// A tensor as a file holds it: a view into the mapped file, of any dtype.
struct StoredTensor {
  Tensor data;                         ///< of blocks: U8 (rows, bytes of a row)
  std::filesystem::path file;          ///< for error texts
  std::string name;                    ///< as the file has it
  std::optional<WeightFormat> blocks;  ///< how numbers are packed, where `data` is blocks that say all about them
};

using TensorMap = std::map<std::string, StoredTensor, std::less<>>;

/// How a tensor's numbers are held: "F32", or "Q4_K".
std::string type_name(const StoredTensor& tensor);

/// A whole file, mapped for as long as the buffer lives.
std::shared_ptr<Buffer> map_file(const std::filesystem::path& path);

/// The tensor whose bytes begin at `begin` of a mapped file: a view where the processor can read its elements in place,
/// else a copy.
Tensor view_or_copy(const std::shared_ptr<Buffer>& file, size_t begin, const Shape& shape, DType dtype);

}  // namespace inkstone
