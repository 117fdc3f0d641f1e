// How long a GPU idles between the kernels of a recorded step: a library that CUDA loads into a program.
//
//     CUDA_INJECTION64_PATH=build/bench/libidle_share.so build/inkstone bench block --size 512 --layers 6 --device cuda
//
// At its end the program prints a line of JSON to standard error: of the graph with the most kernels, and of several
// such the one that was replayed most often, how many they are, how often it was replayed, and medians over its replays
// of the time from the first kernel's beginning to the last one's end, of the time in which any of them ran, and of the
// share of the rest. Also the sum of their times, which is more than what they took where some ran side by side, and
// how many records CUPTI had no room for: there must be none. What a replay takes to begin is in none of these. Replays
// of other graphs are left out, so while two are replayed side by side the GPU may be busy where it counts as idle
// here.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cupti.h>
#include <map>
#include <mutex>
#include <tuple>
#include <vector>

#include "engine/timing.h"

namespace {

using inkstone::median;

constexpr size_t kBufferBytes = size_t{8} << 20;  // as CUPTI's documentation advises

struct Kernel {
  uint64_t begin, end;  ///< ns
};

using Replays = std::map<uint32_t, std::vector<Kernel>>;  // of a graph, by the number of the call that began each

std::mutex mutex;                    // CUPTI calls back from threads of its own
std::map<uint32_t, Replays> graphs;  // by the number of what was instantiated
size_t dropped = 0;

void give_buffer(uint8_t** buffer, size_t* bytes, size_t* most_records) {
  *buffer = static_cast<uint8_t*>(std::malloc(kBufferBytes));
  *bytes = *buffer == nullptr ? 0 : kBufferBytes;
  *most_records = 0;  // as many as fit
}

void take_records(CUcontext context, uint32_t stream, uint8_t* buffer, size_t, size_t valid_bytes) {
  const std::lock_guard lock(mutex);
  for (CUpti_Activity* record = nullptr; cuptiActivityGetNextRecord(buffer, valid_bytes, &record) == CUPTI_SUCCESS;) {
    if (record->kind != CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL) continue;
    // The record of CUDA 12.4; later ones only have more at their end.
    const auto* kernel = reinterpret_cast<const CUpti_ActivityKernel9*>(record);
    if (kernel->graphId != 0 && kernel->end != 0)
      graphs[kernel->graphId][kernel->correlationId].push_back({kernel->start, kernel->end});
  }
  size_t lost = 0;
  if (cuptiActivityGetNumDroppedRecords(context, stream, &lost) == CUPTI_SUCCESS) dropped += lost;
  std::free(buffer);
}

/// In ms.
struct Times {
  double span = 0, busy = 0, sum = 0;
};

Times times_of(std::vector<Kernel> kernels) {
  std::sort(kernels.begin(), kernels.end(), [](const Kernel& a, const Kernel& b) { return a.begin < b.begin; });
  uint64_t busy = 0, sum = 0, seen = kernels.front().begin;  // until when all is counted
  for (const Kernel& kernel : kernels) {
    sum += kernel.end - kernel.begin;
    if (kernel.end > seen) busy += kernel.end - std::max(kernel.begin, seen);
    seen = std::max(seen, kernel.end);
  }
  const auto ms = [](uint64_t ns) { return static_cast<double>(ns) * 1e-6; };
  return {ms(seen - kernels.front().begin), ms(busy), ms(sum)};
}

/// Leaves those whose records are all there, and tells how many kernels they have.
size_t keep_whole(Replays& replays) {
  size_t most = 0;
  for (const auto& [call, kernels] : replays) most = std::max(most, kernels.size());
  std::erase_if(replays, [most](const auto& replay) { return replay.second.size() < most; });
  return most;
}

void print() {
  cuptiActivityFlushAll(CUPTI_ACTIVITY_FLAG_FLUSH_FORCED);
  const std::lock_guard lock(mutex);
  size_t most = 0;
  const Replays* chosen = nullptr;
  for (auto& [graph, replays] : graphs) {
    const size_t kernels = keep_whole(replays);
    if (chosen != nullptr && std::tuple(kernels, replays.size()) <= std::tuple(most, chosen->size())) continue;
    most = kernels;
    chosen = &replays;
  }
  if (chosen == nullptr) {
    std::fprintf(stderr, "idle_share: no graph was replayed\n");
    return;
  }
  std::vector<double> spans, busy, sums, shares;
  for (const auto& [call, kernels] : *chosen) {
    const Times times = times_of(kernels);
    spans.push_back(times.span);
    busy.push_back(times.busy);
    sums.push_back(times.sum);
    shares.push_back(1 - times.busy / times.span);
  }
  std::fprintf(stderr,
               "{\"kernels\": %zu, \"replays\": %zu, \"span_ms\": %.4f, \"busy_ms\": %.4f, \"idle_share\": %.5f, "
               "\"sum_ms\": %.4f, \"dropped\": %zu}\n",
               most, spans.size(), median(spans), median(busy), median(shares), median(sums), dropped);
}

}  // namespace

/// CUDA calls it when it starts.
extern "C" __attribute__((visibility("default"))) int InitializeInjection() {
  if (cuptiActivityRegisterCallbacks(give_buffer, take_records) == CUPTI_SUCCESS &&
      cuptiActivityEnable(CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL) == CUPTI_SUCCESS) {
    std::atexit(print);
  } else {
    std::fprintf(stderr, "idle_share: CUPTI gives no records here\n");
  }
  return 1;  // the program runs in either case
}
