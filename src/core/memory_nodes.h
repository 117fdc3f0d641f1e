// Machines whose memory is in parts (nodes), each near some of the processors.
#pragma once
#include <cstddef>
#include <filesystem>
#include <span>
#include <vector>

namespace inkstone {

/// Numbers of the nodes that have memory, growing; none if no file tells. `root` stands before /sys (tests give a
/// folder of their own).
std::vector<int> memory_nodes(const std::filesystem::path& root = "/");

/// Has pages that nobody has touched yet placed on the nodes in turns. `data` begins a page. False where the system
/// does not do that: they are then near whoever touches them first.
bool spread_pages(void* data, size_t bytes, std::span<const int> nodes);

}  // namespace inkstone
