// Unicode normalisation (specification 2.1, step 2).
#pragma once
#include <string>
#include <string_view>

namespace inkstone {

/// Canonical composition (NFC) of valid UTF-8 of less than 2^31 bytes, in time in proportion to its length.
std::string nfc(std::string_view text);

}  // namespace inkstone
