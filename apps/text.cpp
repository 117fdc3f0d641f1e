#include "text.h"

#include <array>
#include <cmath>
#include <fmt/format.h>

namespace inkstone::cli {
namespace {

template <size_t N>
std::string scaled(double number, double step, const std::array<const char*, N>& units) {
  size_t unit = 0;
  for (; number >= step && unit + 1 < N; ++unit) number /= step;
  const int decimals = unit == 0 || number >= 100 ? 0 : 1;
  return fmt::format("{:.{}f}{}", number, decimals, units[unit]);
}

}  // namespace

std::string bytes_text(size_t bytes) {
  return scaled(static_cast<double>(bytes), 1024, std::array{" B", " KiB", " MiB", " GiB", " TiB"});
}

std::string count_text(int64_t count) {
  return scaled(static_cast<double>(count), 1000, std::array{"", " k", " M", " G", " T"});
}

std::string seconds_text(double seconds) {
  const double digits = seconds > 0 ? std::floor(std::log10(seconds)) : 0;
  const int decimals = static_cast<int>(std::fmin(std::fmax(2 - digits, 0), 6));
  return fmt::format("{:.{}f} s", seconds, decimals);
}

std::string clock_text(double seconds) {
  constexpr int64_t kMinute = 60;
  constexpr int64_t kHour = 60 * kMinute;
  const auto whole = static_cast<int64_t>(std::llround(seconds));
  const int64_t minutes = whole % kHour / kMinute;
  if (whole < kHour) return fmt::format("{}:{:02}", minutes, whole % kMinute);
  return fmt::format("{}:{:02}:{:02}", whole / kHour, minutes, whole % kMinute);
}

}  // namespace inkstone::cli
