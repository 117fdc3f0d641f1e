#include "cpu/int8_panel.h"

#include <algorithm>

#include "cpu/rounding.h"

namespace inkstone {
namespace {

constexpr int64_t kChunk = 2 * kInt8Group;  // inputs at a time: in f32 those of a vector of outputs fit the first cache
constexpr int64_t kAlignment = 64;          // bytes
constexpr int64_t kFloat = sizeof(float);

/// Called some time before a range of a row is read.
void prefetch_row(const Weight& weight, int64_t row, int64_t begin, int64_t end) {
  const auto bytes_of_row = static_cast<int64_t>(weight.data.bytes()) / weight.out;
  const std::byte* data = weight.data.data<const std::byte>() + row * bytes_of_row;
  for (int64_t i = begin * bytes_of_row / weight.in; i < end * bytes_of_row / weight.in; i += kAlignment)
    __builtin_prefetch(data + i);
}

}  // namespace

Int8Panel::Int8Panel(const Int8Functions& functions, const Weight& weight, const Int8Factors* factors, int64_t begin,
                     int64_t end)
    : functions_(functions),
      int8_(functions.int8),
      weight_(weight),
      factors_(factors),
      out_begin_(begin),
      out_end_(end),
      columns_(round_up(end - begin, int8_.lanes)),
      most_depth_(std::min(int8_.most_depth, weight.in)) {}

int64_t Int8Panel::code_bytes() const {
  return round_up(columns_ * round_up(most_depth_, int8_.depth_unit) * int8_.code_bytes, kAlignment);
}

int64_t Int8Panel::scale_bytes() const {
  return round_up(columns_ * divide_up(most_depth_, kInt8Group) * kFloat, kAlignment);
}

/// A range that cuts groups of the weight's format is expanded with all of them.
int64_t Int8Panel::room_bytes() const { return int8_.lanes * (kChunk + 2 * input_unit(weight_)) * kFloat; }

int64_t Int8Panel::width_of(int64_t strip) const { return std::min(strip_width(int8_), columns_ - strip); }

void Int8Panel::pack(int64_t begin, int64_t end, std::byte* memory) {
  codes_ = memory;
  scales_ = reinterpret_cast<float*>(codes_ + code_bytes());
  room_ = reinterpret_cast<float*>(codes_ + code_bytes() + scale_bytes());
  begin_ = begin;
  depth_ = end - begin;
  for (int64_t strip = 0; strip < columns_; strip += strip_width(int8_))
    for (int64_t lane = 0; lane < width_of(strip); lane += int8_.lanes)
      for (int64_t at = begin; at < end; at += kChunk) pack_chunk({strip, lane, at, std::min(at + kChunk, end)});
}

const std::byte* Int8Panel::codes(int64_t strip) const {
  return codes_ + strip * round_up(depth_, int8_.depth_unit) * int8_.code_bytes;
}

const float* Int8Panel::scales(int64_t strip) const { return scales_ + strip * divide_up(depth_, kInt8Group); }

void Int8Panel::pack_chunk(const Chunk& c) {
  const int64_t out = out_begin_ + c.strip + c.lane;
  const int64_t outputs = std::min(int8_.lanes, out_end_ - out);
  const int64_t unit = input_unit(weight_);
  const int64_t from = c.begin / unit * unit, to = std::min(round_up(c.end, unit), weight_.in);
  for (int64_t o = 0; o < outputs; ++o) {
    expand_row(weight_, functions_.vector.expander, out + o, from, to, room_ + o * (to - from));
    prefetch_row(weight_, out + o, to, std::min(to + kChunk, weight_.in));
  }
  const int64_t width = width_of(c.strip);
  for (int64_t at = c.begin; at < c.end; at += kInt8Group) {
    const int64_t before = at - begin_;  // inputs of the panel
    const int64_t code = c.strip * round_up(depth_, int8_.depth_unit) + before * width + c.lane * int8_.depth_unit;
    const int64_t scale = c.strip * divide_up(depth_, kInt8Group) + before / kInt8Group * width + c.lane;
    int8_.pack_lanes({.w = room_ + at - from,
                      .factors = factors_ == nullptr ? nullptr : factors_->of_weight.data() + at,
                      .stride = to - from,
                      .outputs = outputs,
                      .depth = std::min(kInt8Group, c.end - at),
                      .vectors = width / int8_.lanes,
                      .panel = codes_ + code * int8_.code_bytes,
                      .scales = scales_ + scale});
  }
}

}  // namespace inkstone
