// Numbers as people read them.
#pragma once
#include <string>
#include <string_view>

namespace inkstone {

/// Three digits and a decimal prefix: quantity(15'700'000, "B") is "15.7 MB".
std::string quantity(double value, std::string_view unit);

}  // namespace inkstone
