// Whole numbers of blocks.
#pragma once
#include <concepts>
#include <type_traits>

namespace inkstone {

template <std::integral T>
constexpr T divide_up(T n, std::type_identity_t<T> d) {
  return (n + d - 1) / d;
}
template <std::integral T>
constexpr T round_up(T n, std::type_identity_t<T> unit) {
  return divide_up(n, unit) * unit;
}

}  // namespace inkstone
