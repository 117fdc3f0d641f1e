// Weights that come into memory on threads of their own while other work goes on.
#pragma once
#include <atomic>
#include <functional>
#include <future>
#include <stop_token>
#include <thread>
#include <vector>

#include "core/block_reader.h"
#include "engine/timing.h"
#include "model/transformer.h"

namespace inkstone {

/// When something was done.
struct TimeSpan {
  Clock::time_point begin, end;
};

/// Has the system read parts of files into its cache, one after the other. None of it becomes memory of this process.
/// What cannot be read is left out: whoever needs it says so.
class ReadAhead {
 public:
  explicit ReadAhead(std::vector<FilePart> parts);

  /// Ends the reading where it is; until when it went on.
  TimeSpan stop();
  size_t bytes() const { return bytes_; }  ///< read so far

 private:
  void run(const std::stop_token& stop);

  const std::vector<FilePart> parts_;
  std::atomic<size_t> bytes_ = 0;
  TimeSpan span_;
  std::jthread thread_;
};

/// A transformer whose weights are bound, and converted where they have to be. It is stopped and lost if nobody takes
/// it.
class BackgroundLoad {
 public:
  using Load = std::function<TransformerWeights(const std::stop_token&)>;

  /// `load` shall end soon, with Cancelled, after a stop request of the token that it is given, or of `stop`.
  BackgroundLoad(const std::stop_token& stop, Load load);
  ~BackgroundLoad() { mine_.request_stop(); }
  BackgroundLoad(const BackgroundLoad&) = delete;
  BackgroundLoad& operator=(const BackgroundLoad&) = delete;

  /// Waits for it, once; throws what `load` threw.
  TransformerWeights take() { return result_.get(); }
  /// Of a load that was taken.
  const TimeSpan& span() const { return span_; }

 private:
  std::stop_source mine_;
  std::stop_callback<std::function<void()>> forward_;
  TimeSpan span_;
  std::future<TransformerWeights> result_;  // its end waits for the thread, so it must come first
};

}  // namespace inkstone
