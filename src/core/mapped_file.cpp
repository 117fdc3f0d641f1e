#include "core/mapped_file.h"

#include <cerrno>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>

namespace inkstone {
namespace {

struct Descriptor {
  explicit Descriptor(int n) : fd(n) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd >= 0) close(fd);
  }
  int fd;
};

[[noreturn]] void fail_to_read(const std::filesystem::path& path, int error) {
  fail("{}: cannot read: {}", path.string(), std::generic_category().message(error));
}

}  // namespace

std::shared_ptr<MappedFile> MappedFile::open(const std::filesystem::path& path) {
  // A pipe would make a blocking open wait for its writer.
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.fd < 0) fail_to_read(path, errno);
  struct stat status {};
  if (fstat(file.fd, &status) != 0) fail_to_read(path, errno);
  check(!S_ISDIR(status.st_mode), "{}: is a folder, a file is needed", path.string());
  check(S_ISREG(status.st_mode), "{}: is not a regular file", path.string());

  const auto size = static_cast<size_t>(status.st_size);
  if (size == 0) return std::shared_ptr<MappedFile>(new MappedFile(path, nullptr, 0));  // mmap refuses length 0
  void* data = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.fd, 0);
  if (data == MAP_FAILED) fail_to_read(path, errno);
  return std::shared_ptr<MappedFile>(new MappedFile(path, static_cast<const std::byte*>(data), size));
}

MappedFile::MappedFile(std::filesystem::path path, const std::byte* data, size_t size)
    : path_(std::move(path)), data_(data), size_(size) {}

MappedFile::~MappedFile() {
  if (data_ != nullptr) munmap(const_cast<std::byte*>(data_), size_);
}

void MappedFile::release_pages() const {
  if (data_ != nullptr) madvise(const_cast<std::byte*>(data_), size_, MADV_DONTNEED);
}

const MappedFile* file_of(const Tensor& tensor) {
  const auto* buffer = dynamic_cast<const MappedBuffer*>(tensor.buffer().get());
  return buffer == nullptr ? nullptr : buffer->file.get();
}

}  // namespace inkstone
