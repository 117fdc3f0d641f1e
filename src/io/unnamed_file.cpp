#include "io/unnamed_file.h"

#include <cerrno>
#include <fcntl.h>
#include <fmt/format.h>
#include <string>
#include <system_error>
#include <unistd.h>

namespace inkstone {
namespace {

namespace fs = std::filesystem;

std::string link_to(int fd) { return fmt::format("/proc/self/fd/{}", fd); }

}  // namespace

int open_unnamed(const fs::path& folder) {
  const int fd = ::open(folder.c_str(), O_WRONLY | O_TMPFILE | O_CLOEXEC, kNewFile);
  if (fd < 0 || access(link_to(fd).c_str(), F_OK) == 0) return fd;
  close(fd);  // without /proc it could not be named
  return -1;
}

void name_unnamed(int fd, const fs::path& path) {
  if (linkat(AT_FDCWD, link_to(fd).c_str(), AT_FDCWD, path.c_str(), AT_SYMLINK_FOLLOW) != 0)
    throw std::system_error(errno, std::generic_category());
}

}  // namespace inkstone
