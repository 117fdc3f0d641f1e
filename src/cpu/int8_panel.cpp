#include "cpu/int8_panel.h"

#include <algorithm>

#include "core/rounding.h"
#include "ops/mixed_codes.h"

namespace inkstone {
namespace {

constexpr int64_t kAlignment = 64;  // bytes
constexpr int64_t kFloat = sizeof(float);

int64_t code_bytes(const Int8Ops& int8, int64_t columns, int64_t depth) {
  return round_up(columns * round_up(depth, int8.depth_unit) * int8.code_bytes, kAlignment);
}

}  // namespace

Int8Panel::Int8Panel(const Int8Ops& int8, const PanelRange& range, std::byte* memory)
    : range_(range),
      columns_(round_up(range.outputs(), int8.lanes)),
      strip_width_(strip_width(int8)),
      stored_width_(strip_width_),
      step_bytes_(int8.depth_unit * int8.code_bytes),
      strip_unit_bytes_(round_up(range.depth(), int8.depth_unit) * int8.code_bytes),
      codes_(memory),
      scales_(reinterpret_cast<float*>(memory + code_bytes(int8, columns_, range.depth()))) {}

Int8Panel::Int8Panel(const Int8Ops& int8, const Weight& mixed, int64_t in_begin)
    : range_{0, mixed.out, in_begin, std::min(in_begin + kMixedPanel, mixed.in)},
      columns_(mixed.out),
      strip_width_(strip_width(int8)),
      stored_width_(kMixedStrip),
      step_bytes_(kMixedStep),
      strip_unit_bytes_(range_.depth()) {
  const MixedOrder order = {mixed.out, mixed.in};
  codes_ = mixed.data.data<std::byte>() + order.codes(0, in_begin);
  scales_ = mixed.scales.data<float>() + order.scales(0, in_begin);
}

int64_t Int8Panel::bytes(const Int8Ops& int8, int64_t outputs, int64_t depth) {
  const int64_t columns = round_up(outputs, int8.lanes);
  return code_bytes(int8, columns, depth) + round_up(columns * divide_up(depth, kInt8Group) * kFloat, kAlignment);
}

std::byte* Int8Panel::codes(int64_t out) const {
  const int64_t strip = stored_strip(out - range_.out_begin);
  return codes_ + strip * strip_unit_bytes_ + (out - range_.out_begin - strip) * step_bytes_;
}

float* Int8Panel::scales(int64_t out) const {
  const int64_t strip = stored_strip(out - range_.out_begin);
  return scales_ + strip * divide_up(range_.depth(), kInt8Group) + (out - range_.out_begin - strip);
}

int64_t Int8Panel::strip_columns(int64_t out) const {
  return std::min(strip_width_, columns_ - (out - range_.out_begin));
}

int64_t Int8Panel::stored_columns(int64_t out) const {
  return std::min(stored_width_, columns_ - stored_strip(out - range_.out_begin));
}

/// A vector of outputs and a group of inputs, which pass through the first cache together.
struct Int8Packer::Group {
  int64_t strip;  // its first output
  int64_t lane;   // first output in the strip
  int64_t begin;  // inputs
  int64_t end;
};

/// A range that cuts groups of the weight's format is expanded with all of them.
int64_t Int8Packer::room() const {
  return int8_.lanes * (kInt8Group + int8_.lanes) + kInt8Group + 2 * input_unit(weight_);
}

void Int8Packer::pack(const Int8Panel& panel, float* room) const {
  for (int64_t out = panel.range().out_begin; out < panel.range().out_end; out += strip_width(int8_))
    pack_strip(panel, out, room);
}

void Int8Packer::pack_strip(const Int8Panel& panel, int64_t out, float* room) const {
  if (is_rounded_ && weight_.format == WeightFormat::affine4 && int8_.unpack != nullptr)
    return unpack_strip(panel, out);
  const int64_t end = panel.range().in_end;
  for (int64_t lane = 0; lane < panel.strip_columns(out); lane += int8_.lanes)
    for (int64_t at = panel.range().in_begin; at < end; at += kInt8Group)
      pack_group(panel, {out, lane, at, std::min(at + kInt8Group, end)}, room);
}

void Int8Packer::unpack_strip(const Int8Panel& panel, int64_t out) const {
  const MixedOrder order = {weight_.out, weight_.in};
  const int64_t begin = panel.range().in_begin, strip = MixedOrder::strip_of(out), at = out - strip;
  const int64_t columns = order.columns(strip), width = panel.strip_columns(out);
  int8_.unpack({.codes = weight_.data.data<const uint8_t>() + order.pairs(strip, begin) + at * kMixedStep,
                .steps = weight_.offsets.data<const uint8_t>() + order.steps(strip, begin) + at,
                .columns = columns,
                .depth = panel.range().depth(),
                .vectors = width / int8_.lanes,
                .panel = panel.codes(out)});
  const float* scales = weight_.scales.data<const float>() + order.scales(strip, begin) + at;
  for (int64_t group = 0; group < MixedOrder::groups_in(panel.range().depth()); ++group)
    std::copy_n(scales + group * columns, width, panel.scales(out) + group * width);
}

/// A group's numbers on their way to codes, and magnitudes whose greatest is an output's.
void Int8Packer::expand_group(const Group& g, int64_t outputs, float* numbers, float* most, float* room) const {
  const int64_t unit = input_unit(weight_);
  const int64_t from = g.begin / unit * unit, to = std::min(round_up(g.end, unit), weight_.in);
  const float* factors = factors_ == nullptr ? nullptr : factors_->of_weight.data() + g.begin;
  for (int64_t o = 0; o < outputs; ++o, numbers += kInt8Group, most += int8_.lanes) {
    const int64_t row = g.strip + g.lane + o;
    if (is_rounded_) {  // the scale that the codes have, which need not reach the greatest code
      expand_mixed_codes(weight_, row, g.begin, g.end, numbers);
      const int64_t scale = MixedOrder{weight_.out, weight_.in}.scale(row, g.begin);
      std::fill_n(most, int8_.lanes, kInt8Greatest * weight_.scales.data<const float>()[scale]);
      continue;
    }
    expand_row(weight_, functions_.vector.expander, row, from, to, room);
    prefetch_row(weight_, row, to, std::min(to + kInt8Group, weight_.in));
    int8_.mix({room + g.begin - from, factors}, g.end - g.begin, numbers, most);
  }
}

void Int8Packer::pack_group(const Int8Panel& panel, const Group& g, float* room) const {
  const int64_t outputs = std::min(int8_.lanes, panel.range().out_end - g.strip - g.lane);
  float* most = room + int8_.lanes * kInt8Group;
  expand_group(g, outputs, room, most, most + int8_.lanes * int8_.lanes);
  const int64_t width = panel.strip_columns(g.strip), before = g.begin - panel.range().in_begin;
  int8_.pack_lanes({.w = room,
                    .most = most,
                    .stride = kInt8Group,
                    .outputs = outputs,
                    .depth = g.end - g.begin,
                    .vectors = width / int8_.lanes,
                    .panel = panel.codes(g.strip) + (before * width + g.lane * int8_.depth_unit) * int8_.code_bytes,
                    .scales = panel.scales(g.strip) + before / kInt8Group * width + g.lane});
}

}  // namespace inkstone
