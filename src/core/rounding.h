// Whole numbers of blocks.
#pragma once
#include <cstdint>

namespace inkstone {

constexpr int64_t divide_up(int64_t n, int64_t d) { return (n + d - 1) / d; }
constexpr int64_t round_up(int64_t n, int64_t unit) { return divide_up(n, unit) * unit; }

}  // namespace inkstone
