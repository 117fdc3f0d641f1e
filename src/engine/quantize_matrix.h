// Converts one matrix, piece by piece on all threads.
#pragma once
#include <functional>

#include "core/thread_pool.h"
#include "engine/quantize_plan.h"
#include "io/shard_file.h"

namespace inkstone {

/// Called with the numbers that a piece held, from any thread; what it throws ends the work.
using PieceDone = std::function<void(int64_t numbers)>;

/// Writes a matrix in its target to a shard and returns its error, as QuantizedTensor has it. Throws Error with `where`
/// in front for numbers that are not finite or beyond what the target can hold.
double write_matrix(const TensorPlan& plan, const std::string& where, ShardFile& shard, ThreadPool& pool,
                    const PieceDone& done);

}  // namespace inkstone
