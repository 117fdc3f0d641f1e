#include "io/atomic_file.h"

#include <array>
#include <cerrno>
#include <fcntl.h>
#include <streambuf>
#include <system_error>
#include <unistd.h>
#include <utility>

#include "core/error.h"

namespace inkstone {
namespace {

namespace fs = std::filesystem;

constexpr mode_t kMode = 0666;  // less the user's umask, as for any new file
constexpr size_t kBufferBytes = size_t{64} << 10;

/// A file that is removed unless it is renamed. std::ofstream would not tell why a write failed.
class TemporaryFile final : public std::streambuf {
 public:
  TemporaryFile(const fs::path& folder, std::stop_token stop) : stop_(std::move(stop)) {
    for (int n = 0; fd_ < 0; ++n) {
      path_ = folder / fmt::format(".inkstone-{}-{}.tmp", getpid(), n);
      fd_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, kMode);
      if (fd_ < 0 && errno != EEXIST) throw std::system_error(errno, std::generic_category());
    }
    setp(buffer_.data(), buffer_.data() + buffer_.size());
  }

  ~TemporaryFile() override {
    if (fd_ >= 0) close(fd_);
    if (!renamed_) unlink(path_.c_str());
  }

  /// Throws what made a write fail, if one did.
  void check_writes() const {
    if (stopped_) throw Cancelled();
    if (error_ != 0) throw std::system_error(error_, std::generic_category());
  }

  void rename_to(const fs::path& path) {
    sync();
    check_writes();
    if (close(std::exchange(fd_, -1)) != 0) throw std::system_error(errno, std::generic_category());
    fs::rename(path_, path);
    renamed_ = true;
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
  fs::path path_;
  int fd_ = -1;
  int error_ = 0;  ///< the first error of a write
  bool stopped_ = false;
  bool renamed_ = false;
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

}  // namespace inkstone
