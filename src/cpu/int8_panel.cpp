#include "cpu/int8_panel.h"

#include <algorithm>

#include "core/rounding.h"
#include "cpu/cache_line.h"
#include "ops/mixed_codes.h"

namespace inkstone {
namespace {

constexpr int64_t kFloat = sizeof(float);

int64_t code_bytes(const Int8Ops& int8, int64_t columns, int64_t depth) {
  return round_up(columns * round_up(depth, int8.depth_unit) * int8.code_bytes, kLineBytes);
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
  return code_bytes(int8, columns, depth) + round_up(columns * divide_up(depth, kInt8Group) * kFloat, kLineBytes);
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

/// A vector of outputs.
struct Int8Packer::Lanes {
  int64_t strip;  // its first output
  int64_t lane;   // first output in the strip
  int64_t outputs;
  bool is_last;                    // of the panel
  PackedRow rows[kInt8MostLanes];  // from the panel's first input on, where the format has a mixer

  int64_t output(int64_t o) const { return strip + lane + o; }
};

/// Inputs, which pass through the first cache together.
struct Int8Packer::Group {
  int64_t begin;
  int64_t end;
  int64_t before;  // inputs of the panel
  bool is_last;    // of the panel

  int64_t depth() const { return end - begin; }
};

struct Int8Packer::Room {
  Room(const Int8Ops& int8, float* room)
      : numbers(room), most(numbers + int8.lanes * kInt8Group), other(most + int8.lanes * int8.lanes) {}

  float* numbers;  // (lanes, kInt8Group)
  float* most;     // (lanes, lanes) magnitudes
  float* other;    // an expanded row, of formats without a mixer; else scales and offsets of (lanes), for a whole panel
};

Int8Packer::Int8Packer(const Int8Functions& functions, const Weight& weight, const Int8Factors* factors)
    : functions_(functions),
      int8_(functions.int8),
      weight_(weight),
      factors_(factors),
      mix_(weight.factors ? nullptr : functions.int8.mixer(weight.format, weight.group)),
      is_rounded_(weight.factors && factors != nullptr && factors->of_file) {}

int64_t Int8Packer::groups_of(int64_t inputs) const {
  return weight_.group == 0 ? 0 : divide_up(inputs, weight_.group);
}

/// A range that cuts groups of the weight's format is expanded with all of them.
int64_t Int8Packer::room() const {
  const int64_t expanded = kInt8Group + 2 * input_unit(weight_);
  const int64_t scales = int8_.lanes * 2 * groups_of(panel_depth(int8_, weight_.in));
  return int8_.lanes * (kInt8Group + int8_.lanes) + std::max(expanded, scales);
}

void Int8Packer::pack(const Int8Panel& panel, float* room) const {
  for (int64_t out = panel.range().out_begin; out < panel.range().out_end; out += strip_width(int8_))
    pack_strip(panel, out, room);
}

void Int8Packer::pack_strip(const Int8Panel& panel, int64_t out, float* room) const {
  if (is_rounded_ && weight_.format == WeightFormat::affine4 && int8_.unpack != nullptr)
    return unpack_strip(panel, out);
  const Room parts(int8_, room);
  const int64_t begin = panel.range().in_begin, end = panel.range().in_end;
  for (int64_t lane = 0; lane < panel.strip_columns(out); lane += int8_.lanes) {
    const Lanes lanes = lanes_at(panel, out, lane, parts);
    for (int64_t at = begin; at < end; at += kInt8Group)
      pack_group(panel, lanes, {at, std::min(at + kInt8Group, end), at - begin, at + kInt8Group >= end}, parts);
  }
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

Int8Packer::Lanes Int8Packer::lanes_at(const Int8Panel& panel, int64_t strip, int64_t lane, const Room& room) const {
  const PanelRange& range = panel.range();
  const int64_t left = range.out_end - strip - lane;
  Lanes lanes = {strip, lane, std::min(int8_.lanes, left), left <= int8_.lanes, {}};
  if (mix_ == nullptr) return lanes;
  const int64_t groups = groups_of(range.depth());
  for (int64_t o = 0; o < lanes.outputs; ++o)
    lanes.rows[o] = packed_row(weight_, functions_.vector.expander, lanes.output(o), range.in_begin, groups,
                               room.other + o * 2 * groups);
  return lanes;
}

/// Without a copy that is expanded.
void Int8Packer::mix_rows(const Lanes& lanes, const Group& g, const float* factors, const Room& room) const {
  const BlockLayout& layout = layout_of(weight_.format);
  const auto bytes_of = [&](int64_t inputs) { return inputs / layout.numbers * layout.bytes; };
  const int64_t before = bytes_of(g.before), bytes = bytes_of(kInt8Group);
  const int64_t groups = groups_of(g.before);
  const int64_t next = g.is_last ? bytes_of(int8_.lanes * weight_.in) : before + bytes;  // what is read next
  for (int64_t o = 0; o < lanes.outputs; ++o) {
    const PackedRow& row = lanes.rows[o];
    mix_({row.blocks + before, row.scales + groups, row.offsets + groups, row.group}, factors, g.depth(),
         room.numbers + o * kInt8Group, room.most + o * int8_.lanes);
    if (!g.is_last || !lanes.is_last) prefetch(row.blocks + next, bytes);
  }
}

/// An output whose format has no mixer.
void Int8Packer::mix_expanded(int64_t row, const Group& g, const float* factors, float* expanded, float* numbers,
                              float* most) const {
  const int64_t unit = input_unit(weight_);
  const int64_t from = g.begin / unit * unit, to = std::min(round_up(g.end, unit), weight_.in);
  expand_row(weight_, functions_.vector.expander, row, from, to, expanded);
  prefetch_row(weight_, row, to, std::min(to + kInt8Group, weight_.in));
  const auto* blocks = reinterpret_cast<const uint8_t*>(expanded + g.begin - from);
  int8_.mixer(WeightFormat::f32, 0)({.blocks = blocks}, factors, g.depth(), numbers, most);
}

/// Codes times the scale that they have, which need not reach the greatest code.
void Int8Packer::take_codes(int64_t row, const Group& g, float* numbers, float* most) const {
  expand_mixed_codes(weight_, row, g.begin, g.end, numbers);
  const int64_t scale = MixedOrder{weight_.out, weight_.in}.scale(row, g.begin);
  std::fill_n(most, int8_.lanes, kInt8Greatest * weight_.scales.data<const float>()[scale]);
}

/// A group's numbers on their way to codes, and magnitudes whose greatest is an output's.
void Int8Packer::mix_group(const Lanes& lanes, const Group& g, const Room& room) const {
  const float* factors = factors_ == nullptr ? nullptr : factors_->of_weight.data() + g.begin;
  if (mix_ != nullptr) return mix_rows(lanes, g, factors, room);
  for (int64_t o = 0; o < lanes.outputs; ++o) {
    float *numbers = room.numbers + o * kInt8Group, *most = room.most + o * int8_.lanes;
    if (is_rounded_)
      take_codes(lanes.output(o), g, numbers, most);
    else
      mix_expanded(lanes.output(o), g, factors, room.other, numbers, most);
  }
}

void Int8Packer::pack_group(const Int8Panel& panel, const Lanes& lanes, const Group& g, const Room& room) const {
  mix_group(lanes, g, room);
  const int64_t width = panel.strip_columns(lanes.strip);
  int8_.pack_lanes(
      {.w = room.numbers,
       .most = room.most,
       .stride = kInt8Group,
       .outputs = lanes.outputs,
       .depth = g.depth(),
       .vectors = width / int8_.lanes,
       .panel = panel.codes(lanes.strip) + (g.before * width + lanes.lane * int8_.depth_unit) * int8_.code_bytes,
       .scales = panel.scales(lanes.strip) + g.before / kInt8Group * width + lanes.lane});
}

}  // namespace inkstone
