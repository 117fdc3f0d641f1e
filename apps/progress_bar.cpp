#include "progress_bar.h"

#include <algorithm>
#include <chrono>
#include <fmt/format.h>
#include <string_view>
#include <sys/ioctl.h>
#include <unistd.h>

#include "text.h"

namespace inkstone::cli {
namespace {

constexpr auto kRedraw = std::chrono::milliseconds(100);
constexpr size_t kBarWidth = 24;
constexpr size_t kUsualColumns = 80;
constexpr std::string_view kClearLine = "\r\x1b[K";

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

size_t terminal_columns() {
  winsize size = {};
  return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : kUsualColumns;
}

/// In one call, so that no other output comes between. A terminal that is gone is no fault of the work.
void put(std::string_view text) {
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, text.data(), text.size());
}

std::string bar(int64_t step, int64_t steps) {
  const auto done = static_cast<size_t>(static_cast<int64_t>(kBarWidth) * step / std::max<int64_t>(steps, 1));
  return std::string(done, '#') + std::string(kBarWidth - done, '.');
}

}  // namespace

std::string progress_line(const Progress& progress, double waited, size_t columns) {
  std::string line = fmt::format("{:<8}[{}] {}/{}", name_of(progress.stage), bar(progress.step, progress.steps),
                                 progress.step, progress.steps);
  if (progress.seconds_per_step > 0) {
    line += fmt::format("  {} a step", seconds_text(progress.seconds_per_step));
    line += fmt::format("  {} left", clock_text(std::max(progress.seconds_left - waited, 0.0)));
  }
  line += "  " + bytes_text(progress.memory_bytes);
  return line.substr(0, columns);
}

ProgressBar::ProgressBar() : drawer_([this](const std::stop_token& ended) { draw_until(ended); }) {}

ProgressBar::~ProgressBar() {
  drawer_.request_stop();
  drawer_.join();
}

void ProgressBar::update(const Progress& progress) {
  const std::lock_guard lock(mutex_);
  progress_ = progress;
  updated_ = now();
}

void ProgressBar::draw_until(const std::stop_token& ended) {
  std::string shown;
  std::unique_lock lock(mutex_);
  while (!ended.stop_requested()) {
    if (progress_) {
      const std::string line = progress_line(*progress_, now() - updated_, terminal_columns() - 1);
      if (line != shown) put(std::string(kClearLine) + line);
      shown = line;
    }
    wake_.wait_for(lock, ended, kRedraw, [] { return false; });
  }
  if (!shown.empty()) put(kClearLine);
}

}  // namespace inkstone::cli
