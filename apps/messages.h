// Messages on standard error; standard output carries results only.
#pragma once
#include <cstdint>
#include <string_view>

namespace inkstone::cli {

enum class Verbosity : uint8_t { quiet, normal, verbose };

/// Sets spdlog up: plain text for information, "warning: " and "error: " in front of the rest. Quiet leaves errors.
void set_up_messages(Verbosity verbosity);

/// Whether progress is to be shown: there is someone to see it, on a terminal that can redraw a line.
bool shows_progress(Verbosity verbosity);

}  // namespace inkstone::cli
