// Work that goes row by row, cut into blocks for the workers.
#pragma once
#include <algorithm>
#include <span>
#include <vector>

#include "core/thread_pool.h"

namespace inkstone {

/// Rows [begin, end) of one of an op's parts.
struct RowBlock {
  size_t part = 0;
  int64_t begin = 0;
  int64_t end = 0;
};

/// Calls each(block) for blocks that cover parts of `rows` rows, `width` numbers wide. What is too little to pay for
/// waking a worker runs on the calling thread.
template <class Each>
void for_row_blocks(ThreadPool& pool, std::span<const int64_t> rows, int64_t width, const Each& each) {
  constexpr int64_t kLeastNumbers = 16 * 1024;       // a few microseconds of work, as handing out a task costs
  constexpr int64_t kMostNumbers = 4 * 1024 * 1024;  // some milliseconds: a stop request waits for blocks at work
  constexpr int64_t kTasksPerWorker = 4;  // so that workers which start late or run slowly do not hold up the rest
  int64_t all_rows = 0;
  for (const int64_t n : rows) all_rows += n;
  const int64_t least = kLeastNumbers / std::max<int64_t>(width, 1) + 1;
  const int64_t most = std::max(least, kMostNumbers / std::max<int64_t>(width, 1));
  const int64_t block = std::clamp(all_rows / (pool.threads() * kTasksPerWorker) + 1, least, most);

  std::vector<RowBlock> blocks;
  for (size_t part = 0; part < rows.size(); ++part)
    for (int64_t begin = 0; begin < rows[part]; begin += block)
      blocks.push_back({part, begin, std::min(begin + block, rows[part])});
  if (all_rows <= least) {
    for (const RowBlock& b : blocks) each(b);
    return;
  }
  pool.run(static_cast<int64_t>(blocks.size()), [&](int64_t index, int) { each(blocks[static_cast<size_t>(index)]); });
}

/// The same for an op with one part: calls each(begin, end).
template <class Each>
void for_row_blocks(ThreadPool& pool, int64_t rows, int64_t width, const Each& each) {
  for_row_blocks(pool, std::span(&rows, 1), width, [&](const RowBlock& block) { each(block.begin, block.end); });
}

}  // namespace inkstone
