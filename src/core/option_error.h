// How the library reports wrong values of requests and options.
#pragma once
#include "inkstone/option_error.h"

#include "core/error.h"

namespace inkstone {

/// Throws OptionError with a formatted text, which begins with the option's name.
template <class... Args>
[[noreturn]] void fail_option(fmt::format_string<Args...> text, Args&&... args) {
  throw OptionError(fmt::format(text, std::forward<Args>(args)...));
}

/// The same unless `ok`.
template <class... Args>
void check_option(bool ok, fmt::format_string<Args...> text, Args&&... args) {
  if (!ok) throw OptionError(fmt::format(text, std::forward<Args>(args)...));
}

}  // namespace inkstone
