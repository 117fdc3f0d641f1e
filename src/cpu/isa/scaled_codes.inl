// Numbers of codes, for the files of vectors, which include this behind them. INKSTONE_ISA names the instruction set.
#pragma once
#include <cstdint>

namespace inkstone::INKSTONE_ISA {
namespace {

/// What kLanes codes of a group stand for: scale * code + offset.
template <int bits, Floats (*load_codes)(const uint8_t*)>
class ScaledCodes {
 public:
  static constexpr int kBits = bits;
  ScaledCodes(Floats scale, Floats offset) : scale_(scale), offset_(offset) {}

  Floats numbers(const uint8_t* codes) const { return load_codes(codes) * scale_ + offset_; }

 private:
  Floats scale_, offset_;
};

using ByteCodes = ScaledCodes<8, load_bytes>;

}  // namespace
}  // namespace inkstone::INKSTONE_ISA
