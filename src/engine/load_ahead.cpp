#include "engine/load_ahead.h"

#include <algorithm>
#include <deque>

namespace inkstone {
namespace {

constexpr size_t kPiece = size_t{8} << 20;  // of one request: between two looks at the stop token
constexpr size_t kPending = 4;              // requests under way, which keep a disk busy and end soon

/// The end of a part that the system was asked for.
struct Requested {
  const MappedFile* file;
  size_t last, bytes;
};

}  // namespace

ReadAhead::ReadAhead(std::vector<FilePart> parts)
    : parts_(std::move(parts)), thread_([this](const std::stop_token& stop) { run(stop); }) {}

TimeSpan ReadAhead::stop() {
  thread_.request_stop();
  if (thread_.joinable()) thread_.join();
  return span_;
}

void ReadAhead::run(const std::stop_token& stop) {
  std::deque<Requested> pending;
  const auto await_first = [&] {
    pending.front().file->await_cached(pending.front().last);
    bytes_ += pending.front().bytes;
    pending.pop_front();
  };
  span_.begin = Clock::now();
  for (const FilePart& part : parts_) {
    for (size_t done = 0; done < part.bytes && !stop.stop_requested(); done += pending.back().bytes) {
      const size_t bytes = std::min(kPiece, part.bytes - done);
      part.file->begin_caching(part.begin + done, bytes);
      pending.push_back({part.file, part.begin + done + bytes - 1, bytes});
      if (pending.size() > kPending) await_first();
    }
  }
  while (!pending.empty()) await_first();
  span_.end = Clock::now();
}

BackgroundLoad::BackgroundLoad(const std::stop_token& stop, Load load)
    : forward_(stop, [this] { mine_.request_stop(); }),
      result_(std::async(std::launch::async, [this, run = std::move(load), mine = mine_.get_token()] {
        span_.begin = Clock::now();
        TransformerWeights weights = run(mine);
        span_.end = Clock::now();
        return weights;
      })) {}

}  // namespace inkstone
