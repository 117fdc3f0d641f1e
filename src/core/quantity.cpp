#include "core/quantity.h"

#include <array>
#include <fmt/format.h>

namespace inkstone {

std::string quantity(double value, std::string_view unit) {
  constexpr std::array<std::string_view, 6> kPrefixes = {"", "k", "M", "G", "T", "P"};
  // From here on a digit less stands behind the point, lest rounding make a fourth digit.
  constexpr double kRoundsToNextPrefix = 999.5, kRoundsToHundred = 99.95, kRoundsToTen = 9.995;
  size_t prefix = 0;
  for (; value >= kRoundsToNextPrefix && prefix + 1 < kPrefixes.size(); ++prefix) value /= 1000;
  const int decimals = prefix == 0 || value >= kRoundsToHundred ? 0 : value >= kRoundsToTen ? 1 : 2;
  return fmt::format("{:.{}f} {}{}", value, decimals, kPrefixes[prefix], unit);
}

}  // namespace inkstone
