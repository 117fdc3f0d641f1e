// What the process asks the system about itself.
#include <algorithm>
#include <cmath>
#include <fstream>
#include <initializer_list>
#include <limits>
#include <sched.h>
#include <string>
#include <string_view>
#include <thread>

#include "core/host_memory.h"
#include "core/system_limits.h"
#include "core/thread_pool.h"

namespace inkstone {
namespace {

int processors_in_mask() {
  cpu_set_t mask;
  if (sched_getaffinity(0, sizeof(mask), &mask) == 0) return CPU_COUNT(&mask);
  return static_cast<int>(std::thread::hardware_concurrency());  // a machine with more than the mask can hold
}

/// The sum of some fields of /proc/self/status.
size_t status_bytes(std::initializer_list<std::string_view> fields) {
  constexpr size_t kKibibyte = 1024;
  std::ifstream status("/proc/self/status");
  size_t sum = 0;
  for (std::string line; std::getline(status, line);)
    for (const std::string_view field : fields)
      if (line.starts_with(field)) sum += std::stoull(line.substr(field.size())) * kKibibyte;
  return sum;
}

}  // namespace

int usable_processors() {
  int n = processors_in_mask();
  if (const auto quota = processor_quota()) n = std::min(n, static_cast<int>(std::ceil(*quota)));
  return std::max(n, 1);
}

size_t available_memory() { return memory_left().value_or(std::numeric_limits<size_t>::max()); }

size_t resident_memory() { return status_bytes({"RssAnon:", "RssShmem:"}); }
size_t mapped_memory() { return status_bytes({"RssFile:"}); }

}  // namespace inkstone
