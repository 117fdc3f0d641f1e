#include "cpu/int8_pictures.h"

#include <algorithm>
#include <cstring>

#include "core/rounding.h"
#include "cpu/cache_line.h"

namespace inkstone {
namespace {

constexpr int64_t kUnit = 4;     // channels: of the widest product's step
constexpr int64_t kBeyond = 64;  // pixels that a tile may read behind the last one

int64_t pixels_of(const Shape& x) { return x[0] * (x[1] + kZeros) * (x[2] + kZeros) + kBeyond; }

std::vector<Int8Plane> planes_of(int64_t channels) {
  const int64_t most = round_up(divide_up(channels, divide_up(channels, kInt8MostGroup)), kUnit);
  std::vector<Int8Plane> planes;
  for (int64_t first = 0; first < channels; first += most) {
    const int64_t depth = std::min(most, channels - first);
    planes.push_back({.first = first, .depth = depth, .stride = round_up(depth, kUnit)});
  }
  return planes;
}

int64_t code_bytes(const Int8Plane& plane, int64_t pixels) { return round_up(pixels * plane.stride, kLineBytes); }

}  // namespace

int64_t Int8Pictures::bytes(const Shape& x) {
  const int64_t pixels = pixels_of(x);
  int64_t bytes = 0;
  for (const Int8Plane& plane : planes_of(x[3]))
    bytes += code_bytes(plane, pixels) + pixels * static_cast<int64_t>(sizeof(float) + sizeof(int32_t));
  return round_up(bytes, kLineBytes);
}

Int8Pictures::Int8Pictures(const Tensor& x) : x_(x), shape_(x.shape()), planes_(planes_of(x.dim(3))) {}

void Int8Pictures::round(std::byte* memory, ThreadPool& pool, const Int8Ops& int8) {
  const int64_t pixels = pixels_of(shape_);
  auto* to = reinterpret_cast<int8_t*>(memory);
  for (Int8Plane& plane : planes_) {
    plane.codes = to;
    plane.scales = reinterpret_cast<float*>(to + code_bytes(plane, pixels));
    plane.sums = reinterpret_cast<int32_t*>(plane.scales + pixels);
    to = reinterpret_cast<int8_t*>(plane.sums + pixels);
  }
  const int64_t lines = shape_[1] + kZeros;
  pool.run(shape_[0] * lines, [&](int64_t task, int) { round_line(task / lines, task % lines - kZerosBefore, int8); });
}

/// A line with what is left and right of it; a line of the border is zeros.
void Int8Pictures::round_line(int64_t picture, int64_t line, const Int8Ops& int8) const {
  const int64_t width = shape_[2], begin = pixel(picture, line, -kZerosBefore), first = begin + kZerosBefore;
  const bool is_border = line < 0 || line >= shape_[1];
  const float* from = x_.data<const float>() + (picture * shape_[1] + line) * width * shape_[3];
  for (const Int8Plane& plane : planes_) {
    const auto clear = [&](int64_t at, int64_t pixels) {
      std::memset(plane.codes + at * plane.stride, 0, static_cast<size_t>(pixels * plane.stride));
      std::fill_n(plane.scales + at, pixels, 0.0f);
      std::fill_n(plane.sums + at, pixels, 0);
    };
    if (is_border || plane.stride != plane.depth) clear(begin, line_pixels());
    if (is_border) continue;
    clear(begin, kZerosBefore);
    clear(first + width, kZerosAfter);
    int8.quantize_pixels({.x = from + plane.first,
                          .x_stride = shape_[3],
                          .rows = width,
                          .depth = plane.depth,
                          .codes = plane.codes + first * plane.stride,
                          .codes_stride = plane.stride,
                          .scales = plane.scales + first,
                          .sums = plane.sums + first});
  }
}

}  // namespace inkstone
