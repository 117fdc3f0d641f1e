// How the library reports faults of the user and of the world.
#pragma once
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <utility>

#include "inkstone/error.h"

namespace inkstone {

/// Throws Error with a formatted text.
template <class... Args>
[[noreturn]] void fail(fmt::format_string<Args...> text, Args&&... args) {
  throw Error(fmt::format(text, std::forward<Args>(args)...));
}

/// Throws Error with a formatted text unless `ok`.
template <class... Args>
void check(bool ok, fmt::format_string<Args...> text, Args&&... args) {
  if (!ok) throw Error(fmt::format(text, std::forward<Args>(args)...));
}

}  // namespace inkstone
