// A read-only file in memory.
#pragma once
#include <filesystem>
#include <memory>
#include <span>
#include <sys/stat.h>
#include <utility>

#include "core/tensor.h"

namespace inkstone {

/// Maps a regular file for reading. Tensors that point into it keep it mapped.
class MappedFile {
 public:
  /// An opened file, closed at the end.
  struct Descriptor {
    explicit Descriptor(int n = -1) : fd(n) {}
    Descriptor(Descriptor&& other) noexcept : fd(std::exchange(other.fd, -1)) {}
    ~Descriptor();
    int fd;
  };

  /// Throws Error naming the path and the system's reason.
  static std::shared_ptr<MappedFile> open(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::span<const std::byte> bytes() const { return {data_, size_}; }

  /// Throws Error if the file has another size or was written to since it was opened: what is read from it may be
  /// anything, and behind its new end reading is SIGBUS. A file that was removed or replaced stays as it was.
  void check_unchanged() const;

  /// Throws Error if a descriptor is of another file, opened by this one's path after it was replaced.
  void check_is(int descriptor) const;

  /// Takes the file's pages out of this process' resident memory; what is read again comes from the system's cache, or
  /// the disk.
  void release_pages() const;

  /// Has the system begin to read a part into its cache, where it takes no memory of this process.
  void begin_caching(size_t begin, size_t bytes) const;

  /// Waits until what holds the byte at `at` is in that cache, or cannot be read.
  void await_cached(size_t at) const;

 private:
  MappedFile(std::filesystem::path path, Descriptor file, const std::byte* data, const struct stat& status);

  std::filesystem::path path_;
  Descriptor file_;
  const std::byte* data_;
  size_t size_;
  timespec written_;  ///< when, as of opening
};

/// A mapped file as the memory of tensors.
struct MappedBuffer final : Buffer {
  explicit MappedBuffer(std::shared_ptr<MappedFile> mapped)
      : Buffer(const_cast<std::byte*>(mapped->bytes().data()), mapped->bytes().size()), file(std::move(mapped)) {}
  std::shared_ptr<MappedFile> file;
};

/// Takes the pages of a file that a tensor lies in out of resident memory, as MappedFile::release_pages().
void release_pages(const Tensor& tensor);

/// The file that a tensor is a view of; null if it has memory of its own.
const MappedFile* file_of(const Tensor& tensor);

}  // namespace inkstone
