// What the machine and the control groups (versions 1 and 2) leave to this process.
#pragma once
#include <cstddef>
#include <filesystem>
#include <optional>

namespace inkstone {

/// Bytes that may still be taken: the least of MemAvailable and, for this process' control group and each above it, its
/// limit less its use, where the page cache is no use since the kernel drops it. 0 if a limit is passed already;
/// nothing if no file tells. `root` stands before /proc and /sys (tests give a folder of their own).
std::optional<size_t> memory_left(const std::filesystem::path& root = "/");

/// Processors' worth of time that the tightest control group grants, if one does.
std::optional<double> processor_quota(const std::filesystem::path& root = "/");

}  // namespace inkstone
