#include "engine/stages.h"

#include <algorithm>

#include "core/host_memory.h"

namespace inkstone {
void Stages::begin(Stage stage, int64_t steps) {
  end_stage();
  running_ = true;
  now_ = {.stage = stage, .step = 0, .steps = steps};
  step_seconds_.clear();
  stage_start_ = step_start_ = Clock::now();
  report();
}

void Stages::step_done() {
  step_seconds_.push_back(seconds_since(step_start_));
  step_start_ = Clock::now();
  ++now_.step;
  now_.seconds_per_step = median(step_seconds_);
  now_.seconds_left = now_.seconds_per_step * static_cast<double>(now_.steps - now_.step);
  report();
}

std::vector<StageTime> Stages::finish() {
  end_stage();
  return times_;
}

void Stages::add(Stage stage, double seconds) {
  const auto same = std::find_if(times_.begin(), times_.end(), [&](const StageTime& t) { return t.stage == stage; });
  if (same == times_.end()) {
    times_.push_back({stage, seconds});
  } else {
    same->seconds += seconds;
  }
}

void Stages::report() const {
  if (!report_) return;
  Progress progress = now_;
  progress.memory_bytes = resident_memory();
  report_(progress);
}

void Stages::end_stage() {
  if (running_) {
    const auto end = Clock::now();
    timeline_.push_back({.what = std::string(name_of(now_.stage)), .begin_s = at(stage_start_), .end_s = at(end)});
    add(now_.stage, timeline_.back().end_s - timeline_.back().begin_s);
  }
  running_ = false;
}

}  // namespace inkstone
