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

  /// Takes the file's pages out of this process' resident memory; what is read again comes from the system's cache, or
  /// the disk.
  void release_pages() const;

 private:
  MappedFile(std::filesystem::path path, const std::byte* data, size_t size);

  std::filesystem::path path_;
  const std::byte* data_;
  size_t size_;
};

/// A mapped file as the memory of tensors.
struct MappedBuffer final : Buffer {
  explicit MappedBuffer(std::shared_ptr<MappedFile> mapped)
      : Buffer(const_cast<std::byte*>(mapped->bytes().data()), mapped->bytes().size()), file(std::move(mapped)) {}
  std::shared_ptr<MappedFile> file;
};

/// The file that a tensor is a view of; null if it has memory of its own.
const MappedFile* file_of(const Tensor& tensor);

}  // namespace inkstone
