// What this machine's memory can move at most, to measure kernels against.
#pragma once
#include <algorithm>
#include <chrono>
#include <cstring>

#include "core/tensor.h"
#include "core/thread_pool.h"

namespace inkstone {

/// Bytes a second, read plus written, of copying 128 MiB with all processors: the best of several runs.
inline double measure_copy_bandwidth() {
  constexpr int64_t kNumbers = int64_t{32} << 20;
  constexpr int kRuns = 5;
  ThreadPool pool(usable_processors());
  const Tensor from = host_tensor({kNumbers}, DType::f32), to = host_tensor({kNumbers}, DType::f32);
  std::memset(from.data<float>(), 0, from.bytes());
  const size_t part = from.bytes() / static_cast<size_t>(pool.threads());
  double best = 0;
  for (int run = 0; run <= kRuns; ++run) {  // the first one maps the pages
    const auto start = std::chrono::steady_clock::now();
    pool.run(pool.threads(), [&](int64_t index, int) {
      const size_t begin = static_cast<size_t>(index) * part;
      std::memcpy(to.data<std::byte>() + begin, from.data<std::byte>() + begin, part);
    });
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    best = std::max(best, 2 * static_cast<double>(part) * pool.threads() / seconds);
  }
  return best;
}

}  // namespace inkstone
