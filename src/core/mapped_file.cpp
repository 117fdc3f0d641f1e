#include "core/mapped_file.h"

#include <cerrno>
#include <fcntl.h>
#include <sys/mman.h>
#include <system_error>
#include <unistd.h>

namespace inkstone {
namespace {

[[noreturn]] void fail_to_read(const std::filesystem::path& path, int error) {
  fail("{}: cannot read: {}", path.string(), std::generic_category().message(error));
}

}  // namespace

std::shared_ptr<MappedFile> MappedFile::open(const std::filesystem::path& path) {
  // A pipe would make a blocking open wait for its writer.
  Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.fd < 0) fail_to_read(path, errno);
  struct stat status {};
  if (fstat(file.fd, &status) != 0) fail_to_read(path, errno);
  check(!S_ISDIR(status.st_mode), "{}: is a folder, a file is needed", path.string());
  check(S_ISREG(status.st_mode), "{}: is not a regular file", path.string());

  const auto size = static_cast<size_t>(status.st_size);
  void* data = nullptr;
  if (size > 0) data = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.fd, 0);  // it refuses length 0
  if (data == MAP_FAILED) fail_to_read(path, errno);
  return std::shared_ptr<MappedFile>(
      new MappedFile(path, std::move(file), static_cast<const std::byte*>(data), status));
}

MappedFile::Descriptor::~Descriptor() {
  if (fd >= 0) close(fd);
}

MappedFile::MappedFile(std::filesystem::path path, Descriptor file, const std::byte* data, const struct stat& status)
    : path_(std::move(path)),
      file_(std::move(file)),
      data_(data),
      size_(static_cast<size_t>(status.st_size)),
      written_(status.st_mtim) {}

MappedFile::~MappedFile() {
  if (data_ != nullptr) munmap(const_cast<std::byte*>(data_), size_);
}

void MappedFile::check_unchanged() const {
  struct stat now {};
  if (fstat(file_.fd, &now) != 0) fail_to_read(path_, errno);
  check(static_cast<size_t>(now.st_size) == size_,
        "{}: changed while it was in use: {} bytes now, {} when it was opened", path_.string(), now.st_size, size_);
  check(now.st_mtim.tv_sec == written_.tv_sec && now.st_mtim.tv_nsec == written_.tv_nsec,
        "{}: changed while it was in use: written to since it was opened", path_.string());
}

void MappedFile::check_is(int descriptor) const {
  struct stat mine {
  }, other{};
  if (fstat(file_.fd, &mine) != 0 || fstat(descriptor, &other) != 0) fail_to_read(path_, errno);
  check(mine.st_dev == other.st_dev && mine.st_ino == other.st_ino,
        "{}: changed while it was in use: replaced by another file since it was opened", path_.string());
}

void MappedFile::release_pages() const {
  if (data_ != nullptr) madvise(const_cast<std::byte*>(data_), size_, MADV_DONTNEED);
}

void MappedFile::begin_caching(size_t begin, size_t bytes) const {
  posix_fadvise(file_.fd, static_cast<off_t>(begin), static_cast<off_t>(bytes), POSIX_FADV_WILLNEED);
}

void MappedFile::await_cached(size_t at) const {
  std::byte byte;
  [[maybe_unused]] const ssize_t read = pread(file_.fd, &byte, 1, static_cast<off_t>(at));
}

void release_pages(const Tensor& tensor) {
  if (tensor.bytes() == 0 || file_of(tensor) == nullptr) return;
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto first = reinterpret_cast<uintptr_t>(tensor.data<std::byte>());
  const uintptr_t begin = first / page * page;
  madvise(reinterpret_cast<void*>(begin), first + tensor.bytes() - begin, MADV_DONTNEED);
}

const MappedFile* file_of(const Tensor& tensor) {
  const auto* buffer = dynamic_cast<const MappedBuffer*>(tensor.buffer().get());
  return buffer == nullptr ? nullptr : buffer->file.get();
}

}  // namespace inkstone
