// Files without a name until they are whole: of those nothing is left, whatever ends the process.
#pragma once
#include <filesystem>
#include <sys/types.h>

namespace inkstone {

inline constexpr mode_t kNewFile = 0666;  ///< less the user's umask, as for any new file

/// Opens one for writing; negative where the file system of the folder has none, so that another way is needed.
int open_unnamed(const std::filesystem::path& folder);

/// Gives it a name that is free, else throws std::system_error.
void name_unnamed(int fd, const std::filesystem::path& path);

}  // namespace inkstone
