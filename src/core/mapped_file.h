// A read-only file in memory.
#pragma once
#include <filesystem>
#include <memory>
#include <span>

#include "core/tensor.h"

namespace inkstone {

/// Maps a regular file for reading. Tensors that point into it keep it mapped.
class MappedFile {
 public:
  /// Throws Error naming the path and the system's reason.
  static std::shared_ptr<MappedFile> open(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::span<const std::byte> bytes() const { return {data_, size_}; }

 private:
  MappedFile(std::filesystem::path path, const std::byte* data, size_t size);

  std::filesystem::path path_;
  const std::byte* data_;
  size_t size_;
};

}  // namespace inkstone
