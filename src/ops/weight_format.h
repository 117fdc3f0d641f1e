// How the numbers of weight matrices are packed: one table of all formats.
//
// The files of instruction sets read this too: it names no std template (see cpu/vector_ops.h).
#pragma once
#include <cstdint>

namespace inkstone {

enum class WeightFormat : uint8_t {
  f32,
  f16,
  bf16,
  affine4,  ///< codes of 4 bits, lowest bits first; value = scale * code + offset
  affine8,  ///< codes of 8 bits, likewise
  f8_e4m3,  ///< OCP's E4M3: bias 7, no infinities, at most 448; value = scale * number
  f8_e5m2,  ///< OCP's E5M2: the upper half of an IEEE half; value = scale * number
  // The blocks of GGUF files hold their scales themselves.
  q4_0,
  q4_1,
  q5_0,
  q5_1,
  q8_0,
  q2_k,
  q3_k,
  q4_k,
  q5_k,
  q6_k,
  iq4_nl,
  iq4_xs,
};

/// What a format keeps outside its blocks, in tensors of their own.
enum class Beside : uint8_t {
  nothing,
  scales,              ///< may be absent: all are 1
  scales_and_offsets,  ///< both are needed
};

/// A row of a matrix is whole blocks, one behind the other.
struct BlockLayout {
  const char* name;
  int64_t numbers;  ///< in a block
  int64_t bytes;    ///< of a block
  Beside beside = Beside::nothing;
};

/// In the order of WeightFormat.
inline constexpr BlockLayout kBlockLayouts[] = {
    {"f32", 1, 4},
    {"f16", 1, 2},
    {"bf16", 1, 2},
    {"int4", 8, 4, Beside::scales_and_offsets},
    {"int8", 4, 4, Beside::scales_and_offsets},
    {"f8_e4m3", 1, 1, Beside::scales},
    {"f8_e5m2", 1, 1, Beside::scales},
    {"q4_0", 32, 18},
    {"q4_1", 32, 20},
    {"q5_0", 32, 22},
    {"q5_1", 32, 24},
    {"q8_0", 32, 34},
    {"q2_k", 256, 84},
    {"q3_k", 256, 110},
    {"q4_k", 256, 144},
    {"q5_k", 256, 176},
    {"q6_k", 256, 210},
    {"iq4_nl", 32, 18},
    {"iq4_xs", 256, 136},
};

inline constexpr const BlockLayout& layout_of(WeightFormat format) {
  return kBlockLayouts[static_cast<int64_t>(format)];
}

/// Bits of a number, of the formats whose blocks hold nothing else.
constexpr int bits_of(const BlockLayout& layout) {
  constexpr int64_t kByte = 8;
  return static_cast<int>(kByte * layout.bytes / layout.numbers);
}

/// Blocks of a row, and the scales and offsets of every `group` numbers of it where there are such. Nothing needs
/// alignment.
struct PackedRow {
  const uint8_t* blocks = nullptr;
  const float* scales = nullptr;
  const float* offsets = nullptr;
  int64_t group = 0;
};

/// Writes n numbers, whole blocks, as f32.
using Expand = void (*)(const PackedRow& row, int64_t n, float* out);

}  // namespace inkstone
