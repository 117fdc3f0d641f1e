#include "ops/quantize.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <span>
#include <vector>

namespace inkstone {
namespace {

constexpr int64_t kLanes = 8;          // sums side by side, so that compilers make vectors of them
constexpr float kToWhole = 0x1.8p23f;  // added and subtracted, it rounds small numbers to whole ones, ties to even
constexpr int kRefits = 2;             // of scale and offset to codes, for every reach

// Parts of the way from the least to the greatest number that the codes span. With 4 bits a shorter one is often
// better: few numbers are clipped, all others get finer steps. With 8 bits the rounding of scale and offset to bf16
// decides, for which a little more makes room.
constexpr std::array<float, 6> kReaches4 = {1, 0.95f, 0.9f, 0.85f, 0.8f, 0.72f};
constexpr std::array<float, 2> kReaches8 = {1, 1.008f};

float rounded(float x) { return to_float(to_bf16(x)); }

struct Affine {
  float scale = 0;
  float offset = 0;
};

using Lanes = std::array<float, kLanes>;

double sum_of(const Lanes& lanes) {
  double sum = 0;
  for (const float x : lanes) sum += x;
  return sum;
}

/// The numbers of one group, and codes for them. Without weights all count alike, in less time.
template <bool kWeighted>
class Group {
 public:
  Group(const float* numbers, const float* weights, int64_t n, float greatest_code, float* codes)
      : numbers_(numbers), weights_(weights), n_(n), greatest_code_(greatest_code), codes_(codes) {}

  /// Writes the codes nearest to the numbers and gives their weighted squared error.
  double encode(const Affine& a) const {
    const float inverse = a.scale > 0 ? 1 / a.scale : 0;
    const float most = greatest_code_;
    Lanes errors{};
    for (int64_t begin = 0; begin < n_; begin += kLanes) {
      const float* x = numbers_ + begin;
      float* codes = codes_ + begin;
      for (size_t i = 0; i < kLanes; ++i) {
        const float place = (x[i] - a.offset) * inverse;
        const float above = place > 0 ? place : 0;
        codes[i] = ((above < most ? above : most) + kToWhole) - kToWhole;
        const float difference = (a.scale * codes[i] + a.offset) - x[i];
        errors[i] += weight(begin + static_cast<int64_t>(i)) * (difference * difference);
      }
    }
    return sum_of(errors);
  }

  /// Scale and offset with the least error for the codes there are, before rounding; `a` if all are equal.
  Affine fit(const Affine& a) const {
    Lanes w{}, c{}, cc{}, x{}, cx{};
    for (int64_t begin = 0; begin < n_; begin += kLanes)
      for (size_t i = 0; i < kLanes; ++i) {
        const int64_t at = begin + static_cast<int64_t>(i);
        const float number = numbers_[at], code = codes_[at], weighted = weight(at) * code;
        w[i] += weight(at);
        c[i] += weighted;
        cc[i] += weighted * code;
        x[i] += weight(at) * number;
        cx[i] += weighted * number;
      }
    const double n = sum_of(w);
    const double codes = sum_of(c), numbers = sum_of(x);
    const double spread = n * sum_of(cc) - codes * codes;
    if (spread <= 0) return a;
    const double scale = (n * sum_of(cx) - codes * numbers) / spread;
    if (!(scale > 0)) return a;
    return {static_cast<float>(scale), static_cast<float>((numbers - scale * codes) / n)};
  }

  Affine search(std::span<const float> reaches) const {
    const auto [least, greatest] = std::minmax_element(numbers_, numbers_ + n_);
    const float middle = *least / 2 + *greatest / 2, half = *greatest / 2 - *least / 2;  // no sum overflows
    Affine best;
    double least_error = -1;
    for (const float reach : reaches) {
      Affine a = {reach * (half / greatest_code_) * 2, middle - reach * half};
      for (int refit = 0; refit <= kRefits; ++refit) {
        if (refit > 0) a = fit(a);
        a = {rounded(a.scale), rounded(a.offset)};
        const double error = encode(a);
        if (least_error < 0 || error < least_error) {
          least_error = error;
          best = a;
        }
      }
    }
    encode(best);
    return best;
  }

 private:
  float weight(int64_t at) const { return kWeighted ? weights_[at] : 1; }

  const float* numbers_;
  const float* weights_;
  int64_t n_;
  float greatest_code_;
  float* codes_;
};

void pack(WeightFormat format, const float* codes, int64_t n, uint8_t* blocks) {
  if (format == WeightFormat::affine8) {
    for (int64_t i = 0; i < n; ++i) blocks[i] = static_cast<uint8_t>(codes[i]);
    return;
  }
  for (int64_t i = 0; i < n; i += 2)
    blocks[i / 2] = static_cast<uint8_t>(static_cast<int>(codes[i]) | static_cast<int>(codes[i + 1]) << 4);
}

}  // namespace

void quantize_affine(WeightFormat format, const float* numbers, const float* importance, int64_t n, int64_t group,
                     const AffineRow& to) {
  const bool small = format == WeightFormat::affine4;
  const std::span<const float> reaches = small ? std::span<const float>(kReaches4) : kReaches8;
  const float greatest_code = small ? 15 : 255;
  std::vector<float> codes(static_cast<size_t>(n));
  for (int64_t begin = 0; begin < n; begin += group) {
    float* of_group = codes.data() + begin;
    const Affine found =
        importance == nullptr
            ? Group<false>(numbers + begin, nullptr, group, greatest_code, of_group).search(reaches)
            : Group<true>(numbers + begin, importance + begin, group, greatest_code, of_group).search(reaches);
    to.scales[begin / group] = to_bf16(found.scale);
    to.offsets[begin / group] = to_bf16(found.offset);
  }
  pack(format, codes.data(), n, to.blocks);
}

uint8_t to_e4m3(float x) {
  constexpr int kFractionBits = 23 - 3;  // of a single that are rounded away
  constexpr uint32_t kBias = 127 - 7;
  constexpr float kLeastNormal = 0x1p-6f, kSteps = 0x1p9f;  // subnormal numbers are 1 / 512 apart
  const uint32_t sign = std::bit_cast<uint32_t>(x) >> 24 & 0x80u;
  const float magnitude = std::min(std::abs(x), kGreatestE4m3);
  if (magnitude < kLeastNormal)
    return static_cast<uint8_t>(sign | static_cast<uint32_t>(std::nearbyint(magnitude * kSteps)));
  const uint32_t bits = std::bit_cast<uint32_t>(magnitude);
  const uint32_t to_even = (bits >> kFractionBits & 1u) + (1u << (kFractionBits - 1)) - 1;
  return static_cast<uint8_t>(sign | (((bits + to_even) >> kFractionBits) - (kBias << 3)));
}

}  // namespace inkstone
