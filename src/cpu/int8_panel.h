// Weights of any format as the 8-bit numbers that the kernels read.
#pragma once
#include "cpu/int8_factors.h"
#include "cpu/int8_ops.h"
#include "cpu/vector_ops.h"

namespace inkstone {

/// The instruction set's functions, for numbers of 32 and of 8 bits.
struct Int8Functions {
  const VectorOps& vector;
  const Int8Ops& int8;
};

/// Outputs of a strip: as many as a tile of a product has columns.
inline int64_t strip_width(const Int8Ops& int8) { return int8.panel_vectors * int8.lanes; }

/// Some outputs of a weight matrix for some of its inputs, strip by strip. Rounded whenever a tile needs it: packing
/// all weights once would hold them twice, and costs a few rows' products.
class Int8Panel {
 public:
  /// Of outputs [begin, end) of a weight; `factors` of its inputs may be null.
  Int8Panel(const Int8Functions& functions, const Weight& weight, const Int8Factors* factors, int64_t begin,
            int64_t end);

  int64_t depth() const { return most_depth_; }  ///< most inputs at a time, in whole groups unless it is all
  int64_t bytes() const { return code_bytes() + scale_bytes() + room_bytes(); }

  /// Inputs [begin, end), begin at a multiple of depth(), into bytes() of memory aligned to 64 bytes.
  void pack(int64_t begin, int64_t end, std::byte* memory);

  /// Of the strip that begins at an output of the panel.
  const std::byte* codes(int64_t strip) const;
  const float* scales(int64_t strip) const;

 private:
  /// A vector of outputs, and inputs that pass through the first cache together.
  struct Chunk {
    int64_t strip;  // its first output in the panel
    int64_t lane;   // first output in the strip
    int64_t begin;  // inputs of the weight
    int64_t end;
  };

  int64_t code_bytes() const;
  int64_t scale_bytes() const;
  int64_t room_bytes() const;
  int64_t width_of(int64_t strip) const;
  void pack_chunk(const Chunk& chunk);

  const Int8Functions& functions_;
  const Int8Ops& int8_;
  const Weight& weight_;
  const Int8Factors* factors_;
  int64_t out_begin_;
  int64_t out_end_;
  int64_t columns_;  // whole vectors
  int64_t most_depth_;
  int64_t begin_ = 0;  // inputs of the weight
  int64_t depth_ = 0;
  std::byte* codes_ = nullptr;
  float* scales_ = nullptr;
  float* room_ = nullptr;  // for weights in the making
};

}  // namespace inkstone
