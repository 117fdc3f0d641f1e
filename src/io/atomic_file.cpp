#include "io/atomic_file.h"

#include <array>
#include <cerrno>
#include <fcntl.h>
#include <streambuf>
#include <system_error>
#include <unistd.h>
#include <utility>

#include "core/error.h"
#include "io/unnamed_file.h"

namespace inkstone {
namespace {

namespace fs = std::filesystem;

constexpr size_t kBufferBytes = size_t{64} << 10;

/// A file that is removed unless it is renamed. std::ofstream would not tell why a write failed.
class TemporaryFile final : public std::streambuf {
 public:
  TemporaryFile(fs::path folder, std::stop_token stop)
      : stop_(std::move(stop)), folder_(std::move(folder)), fd_(open_unnamed(folder_)) {
    if (fd_ < 0)
      with_free_name([this](const fs::path& name) {
        fd_ = ::open(name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, kNewFile);
        if (fd_ < 0) throw std::system_error(errno, std::generic_category());
      });
    setp(buffer_.data(), buffer_.data() + buffer_.size());
  }

  ~TemporaryFile() override {
    if (fd_ >= 0) close(fd_);
    if (!name_.empty()) unlink(name_.c_str());
  }

  /// Throws what made a write fail, if one did.
  void check_writes() const {
    if (stopped_) throw Cancelled();
    if (error_ != 0) throw std::system_error(error_, std::generic_category());
  }

  void rename_to(const fs::path& path) {
    sync();
    check_writes();
    if (name_.empty()) with_free_name([this](const fs::path& name) { name_unnamed(fd_, name); });
    if (close(std::exchange(fd_, -1)) != 0) throw std::system_error(errno, std::generic_category());
    fs::rename(name_, path);
    name_.clear();
  }

 protected:
  int sync() override {
    const bool ok = write_all(pbase(), static_cast<size_t>(pptr() - pbase()));
    setp(buffer_.data(), buffer_.data() + buffer_.size());
    return ok ? 0 : -1;
  }

  int_type overflow(int_type c) override {
    if (sync() != 0) return traits_type::eof();
    if (!traits_type::eq_int_type(c, traits_type::eof())) sputc(traits_type::to_char_type(c));
    return traits_type::not_eof(c);
  }

 private:
  /// `take` is given hidden names until one is free, which this one then has.
  void with_free_name(const auto& take) {
    for (int n = 0; name_.empty(); ++n) {
      const fs::path name = folder_ / fmt::format(".inkstone-{}-{}.tmp", getpid(), n);
      try {
        take(name);
        name_ = name;
      } catch (const std::system_error& e) {
        if (e.code() != std::errc::file_exists) throw;
      }
    }
  }

  bool write_all(const char* data, size_t size) {
    stopped_ = stopped_ || stop_.stop_requested();
    while (size > 0 && error_ == 0 && !stopped_) {
      const ssize_t written = ::write(fd_, data, size);
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) {
        error_ = errno;
      } else {
        data += written;
        size -= static_cast<size_t>(written);
      }
    }
    return error_ == 0 && !stopped_;
  }

  std::stop_token stop_;
  fs::path folder_;
  fs::path name_;  ///< while it has one that is not the final one
  int fd_ = -1;
  int error_ = 0;  ///< the first error of a write
  bool stopped_ = false;
  std::array<char, kBufferBytes> buffer_;
};

/// Calls `use` with a temporary file beside `path`.
void with_temporary_file(const fs::path& path, std::stop_token stop, const std::function<void(TemporaryFile&)>& use) {
  std::error_code error;  // such as a name that is too long, which the temporary one would hide
  const fs::file_status there = fs::status(path, error);
  check(!error || there.type() == fs::file_type::not_found, "{}: cannot write: {}", path.string(), error.message());
  check(!fs::exists(there) || fs::is_regular_file(there), "{}: cannot write: is not a regular file", path.string());
  try {
    TemporaryFile file(path.has_parent_path() ? path.parent_path() : fs::path("."), std::move(stop));
    use(file);
  } catch (const std::system_error& e) {
    fail("{}: cannot write: {}", path.string(), e.code().message());
  }
}

}  // namespace

void write_atomically(const fs::path& path, const std::function<void(std::ostream&)>& write, std::stop_token stop) {
  with_temporary_file(path, std::move(stop), [&](TemporaryFile& file) {
    std::ostream stream(&file);
    try {
      write(stream);
    } catch (const std::exception&) {
      file.check_writes();  // the cause, if that was it
      throw;
    }
    file.rename_to(path);
  });
}

void check_can_write(const fs::path& path) {
  check(path.has_filename(), "{}: cannot write: a file's name is needed", path.string());
  with_temporary_file(path, {}, [](TemporaryFile&) {});
}

void check_room(const fs::path& path, size_t bytes) {
  std::error_code error;
  fs::path there = fs::absolute(path);
  while (!fs::exists(there, error) && there.has_relative_path()) there = there.parent_path();
  const auto available = fs::space(there, error).available;
  check(error || bytes <= available, "{}: {} bytes are needed on its disk, {} are free", path.string(), bytes,
        available);
}

}  // namespace inkstone
