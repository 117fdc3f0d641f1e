#include "core/memory_nodes.h"

#include <climits>
#include <fstream>
#include <linux/mempolicy.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace inkstone {
namespace {

constexpr int kBitsOfWord = sizeof(unsigned long) * CHAR_BIT;
constexpr int kMostNodes = 1024;  // of Linux

}  // namespace

std::vector<int> memory_nodes(const std::filesystem::path& root) {
  std::ifstream file(root / "sys/devices/system/node/has_memory");
  std::vector<int> nodes;
  for (int first = 0; file >> first;) {  // "0-1,4"
    int last = first;
    if (file.peek() == '-') file.ignore() >> last;
    for (int node = first; node <= last && node < kMostNodes; ++node) nodes.push_back(node);
    if (file.peek() == ',') file.ignore();
  }
  return nodes;
}

// By the system call: a library for this alone would be one more to install.
bool spread_pages(void* data, size_t bytes, std::span<const int> nodes) {
  unsigned long mask[kMostNodes / kBitsOfWord] = {};
  for (const int node : nodes) mask[node / kBitsOfWord] |= 1UL << node % kBitsOfWord;
  // The system leaves out the last bit that it is told of.
  return syscall(SYS_mbind, data, bytes, MPOL_INTERLEAVE, mask, kMostNodes + 1UL, 0UL) == 0;
}

}  // namespace inkstone
