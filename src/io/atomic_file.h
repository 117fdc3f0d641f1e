// Files that appear whole or not at all.
#pragma once
#include <filesystem>
#include <functional>
#include <ostream>
#include <stop_token>

namespace inkstone {

/// Calls `write` with a stream to a temporary file in path's folder, which has no name where the file system can do
/// that, then renames it to `path`. On any failure the temporary file is removed and Error names the path and the
/// reason. After a stop request of `stop` the stream takes nothing more, as on a full disk, and Cancelled is thrown,
/// whatever `write` throws.
void write_atomically(const std::filesystem::path& path, const std::function<void(std::ostream&)>& write,
                      std::stop_token stop = {});

/// Throws the Error that write_atomically would throw for this path before it writes anything, so that no work is done
/// in vain. Makes and removes an empty temporary file.
void check_can_write(const std::filesystem::path& path);

/// Throws Error unless the disk of `path`, which need not be there yet, has room for so many bytes more.
void check_room(const std::filesystem::path& path, size_t bytes);

}  // namespace inkstone
