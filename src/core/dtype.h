// Element types of tensors and files, and the conversions between the float types.
#pragma once
#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace inkstone {

/// Every element type that a safetensors file may hold.
enum class DType : uint8_t { f64, f32, f16, bf16, f8_e4m3, f8_e5m2, i64, i32, i16, i8, u64, u32, u16, u8, boolean };

struct TypeInfo {
  std::string_view name;  ///< that safetensors uses
  size_t bytes;           ///< of one element
};

/// In the order of DType.
inline constexpr TypeInfo kTypes[] = {{"F64", 8},     {"F32", 4}, {"F16", 2}, {"BF16", 2}, {"F8_E4M3", 1},
                                      {"F8_E5M2", 1}, {"I64", 8}, {"I32", 4}, {"I16", 2},  {"I8", 1},
                                      {"U64", 8},     {"U32", 4}, {"U16", 2}, {"U8", 1},   {"BOOL", 1}};

constexpr size_t size_of(DType type) { return kTypes[static_cast<size_t>(type)].bytes; }
constexpr std::string_view name_of(DType type) { return kTypes[static_cast<size_t>(type)].name; }

/// A bfloat16 number: the upper half of an IEEE single.
struct bf16_t {
  uint16_t bits;
};

/// An IEEE half-precision number.
struct f16_t {
  uint16_t bits;
};

inline float to_float(float x) { return x; }
inline float to_float(bf16_t x) { return std::bit_cast<float>(static_cast<uint32_t>(x.bits) << 16); }
/// Exact, subnormals, infinities and NaN included.
float to_float(f16_t x);

/// Rounds to the nearest bfloat16, ties to even; NaN stays NaN.
bf16_t to_bf16(float x);

}  // namespace inkstone
