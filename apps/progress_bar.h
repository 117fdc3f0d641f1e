// One line on a terminal that shows how far the work is.
#pragma once
#include <condition_variable>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>

#include "inkstone/inkstone.h"

namespace inkstone::cli {

/// The line for a progress `waited` seconds old, at most `columns` wide.
std::string progress_line(const Progress& progress, double waited, size_t columns);

/// Draws on standard error from a thread of its own, so that the clock goes on during a long step, at most ten times a
/// second. The line is gone when the bar is destroyed.
class ProgressBar {
 public:
  ProgressBar();
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  void update(const Progress& progress);

 private:
  void draw_until(const std::stop_token& ended);

  std::mutex mutex_;
  std::condition_variable_any wake_;
  std::optional<Progress> progress_;  ///< the latest; guarded by mutex_
  double updated_ = 0;                ///< when it came, in seconds of the steady clock; guarded by mutex_
  std::jthread drawer_;
};

/// Gives what `work` gives, which is called with a function for the library to report to: to a bar if one is to be
/// shown, else none.
template <class Work>
auto with_progress(bool shown, const Work& work) {
  if (!shown) return work(ProgressFunction());
  ProgressBar bar;
  return work(ProgressFunction([&bar](const Progress& progress) { bar.update(progress); }));
}

}  // namespace inkstone::cli
