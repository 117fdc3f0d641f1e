// Where 8-bit codes lie in files that the cpu's kernels read as they are (docs/formats.md).
//
// The files of instruction sets read this too: it names no std template (see cpu/vector_ops.h).
#pragma once
#include <cstdint>

namespace inkstone {

/// Inputs that share a scale; the last group of a row may be shorter.
constexpr int64_t kMixedGroup = 384;

/// Before they are rounded, numbers of a group are mixed by a rotation, which the products of what was mixed alike do
/// not notice: blocks of the greatest of 16, 8 and 4 times kMixedSpacing numbers that still fit, each number with those
/// whole spacings away, by a Hadamard matrix; the rest stays. So a large number becomes as many of a quarter of its
/// size.
constexpr int64_t kMixedSpacing = 16;

constexpr int kMixedGreatest = 127;               // code
constexpr float kMixedLeastDivisor = 0x1p-100f;   // groups of zeros have one
constexpr int kMixedOffset = 128;                 // of a code, so that it is a byte without a sign
constexpr int64_t kMixedStep = 4;                 // inputs side by side
constexpr int64_t kMixedStrip = 48;               // outputs side by side; the last strip may have 16 or 32
constexpr int64_t kMixedLanes = 16;               // outputs are whole such vectors
constexpr int64_t kMixedPanel = 8 * kMixedGroup;  // inputs whose strips follow each other; the last may have fewer

/// With 4 bits, inputs of an output that share a step and an offset: their bytes are step * code + offset. So products
/// read what they read of 8 bits, and a group's scale stays theirs.
constexpr int64_t kMixedSmallGroup = 64;
constexpr int64_t kMixedPair = 2 * kMixedStep;  // inputs of a byte's lower and upper codes, a step each

static_assert(kMixedGroup % kMixedSmallGroup == 0 && kMixedSmallGroup % kMixedPair == 0);

/// Of a matrix (out, in). Its codes are panels, one behind the other, each of strips, each (inputs / 4, outputs, 4);
/// its scales are likewise (groups, outputs) for each strip of a panel. Codes of 4 bits are (inputs / 8, outputs, 4)
/// bytes, and beside the scales lie (small groups, 2, outputs) bytes: steps, then offsets.
struct MixedOrder {
  int64_t out = 0;
  int64_t in = 0;

  static constexpr bool takes(int64_t out, int64_t in) {
    return out > 0 && in > 0 && out % kMixedLanes == 0 && in % kMixedStep == 0;
  }
  static constexpr bool takes_small(int64_t out, int64_t in) { return takes(out, in) && in % kMixedPair == 0; }
  static constexpr int64_t panel_of(int64_t input) { return input / kMixedPanel * kMixedPanel; }
  static constexpr int64_t strip_of(int64_t output) { return output / kMixedStrip * kMixedStrip; }
  static constexpr int64_t groups_in(int64_t inputs) { return (inputs + kMixedGroup - 1) / kMixedGroup; }
  static constexpr int64_t small_groups_in(int64_t inputs) {
    return (inputs + kMixedSmallGroup - 1) / kMixedSmallGroup;
  }
  constexpr int64_t depth(int64_t panel) const { return in - panel < kMixedPanel ? in - panel : kMixedPanel; }
  constexpr int64_t columns(int64_t strip) const { return out - strip < kMixedStrip ? out - strip : kMixedStrip; }

  /// The first byte of a strip, and the first scale.
  constexpr int64_t codes(int64_t strip, int64_t panel) const { return panel * out + strip * depth(panel); }
  constexpr int64_t scales(int64_t strip, int64_t panel) const {
    return groups_in(panel) * out + strip * groups_in(depth(panel));
  }
  /// With 4 bits.
  constexpr int64_t pairs(int64_t strip, int64_t panel) const { return codes(strip, panel) / 2; }
  constexpr int64_t steps(int64_t strip, int64_t panel) const {
    return 2 * (small_groups_in(panel) * out + strip * small_groups_in(depth(panel)));
  }

  constexpr int64_t code(int64_t output, int64_t input) const {
    const int64_t strip = strip_of(output), panel = panel_of(input), step = (input - panel) / kMixedStep;
    return codes(strip, panel) + (step * columns(strip) + output - strip) * kMixedStep + input % kMixedStep;
  }
  constexpr int64_t scale(int64_t output, int64_t input) const {
    const int64_t strip = strip_of(output), panel = panel_of(input), group = (input - panel) / kMixedGroup;
    return scales(strip, panel) + group * columns(strip) + output - strip;
  }
  /// The byte that holds a code of 4 bits, in its upper half for every other kMixedStep inputs.
  constexpr int64_t pair(int64_t output, int64_t input) const {
    const int64_t strip = strip_of(output), panel = panel_of(input), pair = (input - panel) / kMixedPair;
    return pairs(strip, panel) + (pair * columns(strip) + output - strip) * kMixedStep + input % kMixedStep;
  }
  static constexpr bool is_upper(int64_t input) { return input / kMixedStep % 2 != 0; }
  /// The step of a small group; its offset is columns() bytes behind.
  constexpr int64_t step(int64_t output, int64_t input) const {
    const int64_t strip = strip_of(output), panel = panel_of(input), group = (input - panel) / kMixedSmallGroup;
    return steps(strip, panel) + 2 * group * columns(strip) + output - strip;
  }
};

}  // namespace inkstone
