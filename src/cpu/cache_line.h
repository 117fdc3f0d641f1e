// How memory comes to the caches.
#pragma once
#include <cstdint>

namespace inkstone {

constexpr int64_t kLineBytes = 64;
constexpr int64_t kLineNumbers = kLineBytes / 4;  // f32, or places of two numbers of 16 bits

}  // namespace inkstone
