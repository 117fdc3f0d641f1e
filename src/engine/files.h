// Files that a call writes.
#pragma once
#include <filesystem>

namespace inkstone {

/// Throws Error unless a file of this name could be made or replaced, so that no work is done in vain.
void check_writable_file(const std::filesystem::path& path);

}  // namespace inkstone
