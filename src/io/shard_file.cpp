#include "io/shard_file.h"

#include <cerrno>
#include <fcntl.h>
#include <system_error>
#include <unistd.h>
#include <utility>

#include "io/unnamed_file.h"

namespace inkstone {
namespace {

namespace fs = std::filesystem;

}  // namespace

ShardFile::ShardFile(const fs::path& path, std::vector<SafetensorsEntry> entries,
                     const std::map<std::string, std::string>& metadata)
    : path_(path), part_(path.parent_path() / fmt::format(".{}.part", path.filename().string())) {
  const std::string head = place_safetensors(entries, metadata);
  for (SafetensorsEntry& e : entries) entries_.emplace(e.name, std::move(e));
  unlink(part_.c_str());  // left by a killed process
  fd_ = open_unnamed(path_.has_parent_path() ? path_.parent_path() : fs::path("."));
  if (fd_ < 0) fd_ = ::open(part_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, kNewFile);
  if (fd_ < 0) fail_with(errno);
  try {
    write_at(0, std::as_bytes(std::span(head)));
  } catch (...) {  // there is no destructor yet
    close(fd_);
    unlink(part_.c_str());
    throw;
  }
}

ShardFile::~ShardFile() {
  if (fd_ < 0) return;
  close(fd_);
  unlink(part_.c_str());
}

void ShardFile::write(const std::string& name, size_t offset, std::span<const std::byte> bytes) {
  const SafetensorsEntry& e = entries_.at(name);
  check(offset <= e.end - e.begin && bytes.size() <= e.end - e.begin - offset,
        "{}: tensor {}: {} bytes from byte {} do not fit its {}", path_.string(), name, bytes.size(), offset,
        e.end - e.begin);
  write_at(e.begin + offset, bytes);
}

void ShardFile::write_at(size_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail_with(errno);
    offset += static_cast<size_t>(written);
    bytes = bytes.subspan(static_cast<size_t>(written));
  }
}

void ShardFile::finish() {
  if (fsync(fd_) != 0) fail_with(errno);  // a name that is there after a power cut stands for a whole file
  try {
    if (std::error_code ignored; !fs::exists(part_, ignored)) name_unnamed(fd_, part_);
    fs::rename(part_, path_);
  } catch (const std::system_error& e) {
    fail_with(e.code().value());
  }
  close(std::exchange(fd_, -1));
}

void ShardFile::fail_with(int error) const {
  fail("{}: cannot write: {}", path_.string(), std::generic_category().message(error));
}

}  // namespace inkstone
