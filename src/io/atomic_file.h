// Files that appear whole or not at all.
#pragma once
#include <filesystem>
#include <functional>
#include <ostream>

namespace inkstone {

/// Calls `write` with a stream to a temporary file in path's folder, then renames it to `path`. On any failure the
/// temporary file is removed and Error names the path and the reason.
void write_atomically(const std::filesystem::path& path, const std::function<void(std::ostream&)>& write);

/// Throws the Error that write_atomically would throw for this path before it writes anything, so that no work is done
/// in vain. Makes and removes an empty temporary file.
void check_can_write(const std::filesystem::path& path);

}  // namespace inkstone
