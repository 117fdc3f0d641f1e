// Weights of any format as the 8-bit numbers that the kernels read.
#pragma once
#include "cpu/int8_factors.h"
#include "cpu/int8_ops.h"
#include "cpu/weight_panel.h"

namespace inkstone {

/// The instruction set's functions, for numbers of 32 and of 8 bits.
struct Int8Functions {
  const VectorOps& vector;
  const Int8Ops& int8;
};

/// Outputs of a strip: as many as a tile of a product has columns.
inline int64_t strip_width(const Int8Ops& int8) { return int8.panel_vectors * int8.lanes; }

/// Most inputs of a panel, in whole groups unless it is all.
inline int64_t panel_depth(const Int8Ops& int8, int64_t in) { return int8.most_depth < in ? int8.most_depth : in; }

/// Where codes and scales of a range lie, strip by strip.
class Int8Panel {
 public:
  Int8Panel() = default;
  /// In bytes() of memory aligned to 64 bytes. The range begins at a multiple of panel_depth() and ends at the next.
  Int8Panel(const Int8Ops& int8, const PanelRange& range, std::byte* memory);
  /// What a weight with factors holds of all outputs and the inputs from `in_begin` on, where it lies: for instruction
  /// sets that read MixedOrder.
  Int8Panel(const Int8Ops& int8, const Weight& mixed, int64_t in_begin);

  static int64_t bytes(const Int8Ops& int8, int64_t outputs, int64_t depth);

  const PanelRange& range() const { return range_; }
  /// Of the strip that begins at an output of the weight; it is strip_width() outputs from range().out_begin, or more.
  std::byte* codes(int64_t out) const;
  float* scales(int64_t out) const;
  int64_t strip_columns(int64_t out) const;   ///< whole vectors
  int64_t stored_columns(int64_t out) const;  ///< of the strip in memory that it is part of

 private:
  int64_t stored_strip(int64_t out) const { return out / stored_width_ * stored_width_; }

  PanelRange range_;
  int64_t columns_ = 0;  // whole vectors
  int64_t strip_width_ = 0;
  int64_t stored_width_ = 0;      // of strips in memory: of one or several of those
  int64_t step_bytes_ = 0;        // of an output in depth_unit inputs
  int64_t strip_unit_bytes_ = 0;  // of an output in all inputs
  std::byte* codes_ = nullptr;
  float* scales_ = nullptr;
};

/// Rounds weights to 8 bits on their way into panels.
class Int8Packer {
 public:
  /// `factors` of the weight's inputs may be null.
  Int8Packer(const Int8Functions& functions, const Weight& weight, const Int8Factors* factors);

  int64_t room() const;  ///< for weights in the making, in numbers
  void pack(const Int8Panel& panel, float* room) const;
  /// The strip that begins at an output.
  void pack_strip(const Int8Panel& panel, int64_t out, float* room) const;

 private:
  struct Lanes;
  struct Group;
  struct Room;
  int64_t groups_of(int64_t inputs) const;  ///< of the weight's scales
  Lanes lanes_at(const Int8Panel& panel, int64_t strip, int64_t lane, const Room& room) const;
  void pack_group(const Int8Panel& panel, const Lanes& lanes, const Group& group, const Room& room) const;
  void mix_group(const Lanes& lanes, const Group& group, const Room& room) const;
  void mix_rows(const Lanes& lanes, const Group& group, const float* factors, const Room& room) const;
  void mix_expanded(int64_t row, const Group& group, const float* factors, float* expanded, float* numbers,
                    float* most) const;
  void take_codes(int64_t row, const Group& group, float* numbers, float* most) const;
  /// Of codes of 4 bits that lie in the order of the kernels.
  void unpack_strip(const Int8Panel& panel, int64_t out) const;

  const Int8Functions& functions_;
  const Int8Ops& int8_;
  const Weight& weight_;
  const Int8Factors* factors_;
  Mix mix_;          // of the weight's format; null: f32's, of what was expanded
  bool is_rounded_;  // with these factors: only its order is another one
};

}  // namespace inkstone
