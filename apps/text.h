// Numbers as people read them.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

namespace inkstone::cli {

std::string bytes_text(size_t bytes);      ///< "213 MiB"
std::string count_text(int64_t count);     ///< "20.4 G"
std::string seconds_text(double seconds);  ///< three digits: "0.0431 s", "12.3 s"
std::string clock_text(double seconds);    ///< "1:05", "2:00:09"

}  // namespace inkstone::cli
