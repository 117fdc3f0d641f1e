#include "io/stored_tensor.h"

#include <algorithm>
#include <cctype>
#include <cstring>

#include "core/mapped_file.h"

namespace inkstone {

std::string type_name(const StoredTensor& tensor) {
  std::string name(tensor.blocks ? layout_of(*tensor.blocks).name : name_of(tensor.data.dtype()));
  std::ranges::transform(name, name.begin(), [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return name;
}

std::shared_ptr<Buffer> map_file(const std::filesystem::path& path) {
  return std::make_shared<MappedBuffer>(MappedFile::open(path));
}

Tensor view_or_copy(const std::shared_ptr<Buffer>& file, size_t begin, const Shape& shape, DType dtype) {
  if (begin % size_of(dtype) == 0) return {file, begin, shape, dtype};
  Tensor copy = host_tensor(shape, dtype);
  std::memcpy(copy.data<std::byte>(), static_cast<const std::byte*>(file->data) + begin, copy.bytes());
  return copy;
}

}  // namespace inkstone
