#include "ops/quantity.h"

#include <array>
#include <fmt/format.h>

namespace inkstone {

std::string quantity(double value, std::string_view unit) {
  constexpr std::array<std::string_view, 6> kPrefixes = {"", "k", "M", "G", "T", "P"};
  constexpr double kRoundsToNextPrefix = 999.5;  // three digits would print as 1000
  size_t prefix = 0;
  for (; value >= kRoundsToNextPrefix && prefix + 1 < kPrefixes.size(); ++prefix) value /= 1000;
  const int decimals = prefix == 0 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
  return fmt::format("{:.{}f} {}{}", value, decimals, kPrefixes[prefix], unit);
}

}  // namespace inkstone
