// Tells a caller how far a call has come, and keeps the times of its stages.
#pragma once
#include <vector>

#include "inkstone/inkstone.h"

#include "engine/timing.h"

namespace inkstone {

class Stages {
 public:
  explicit Stages(ProgressFunction report) : report_(std::move(report)) {}

  /// Ends the current stage and starts one of `steps` steps.
  void begin(Stage stage, int64_t steps = 1);
  void step_done();
  /// Ends the current stage. Times of every stage so far, in order.
  std::vector<StageTime> finish();
  /// When each stage ran.
  const std::vector<Activity>& timeline() const { return timeline_; }
  /// Seconds from the making of this object to `time`.
  double at(Clock::time_point time) const { return std::chrono::duration<double>(time - origin_).count(); }

  /// Adds time that was spent before the first stage.
  void add(Stage stage, double seconds);

 private:
  void report() const;
  void end_stage();

  ProgressFunction report_;
  std::vector<StageTime> times_;
  std::vector<Activity> timeline_;
  Progress now_;
  bool running_ = false;
  Clock::time_point origin_ = Clock::now();
  Clock::time_point stage_start_, step_start_;
  std::vector<double> step_seconds_;
};

}  // namespace inkstone
