#include "cpu/int8_layer.h"

#include <algorithm>

#include "core/mapped_file.h"
#include "core/rounding.h"
#include "cpu/worker_scratch.h"

namespace inkstone {
namespace {

/// What packing copies from files. `in_place`: not the slabs' own weights.
void for_each_mapped(const Linear& layer, bool in_place, const auto& visit) {
  const auto visit_weight = [&](const Weight& weight) {
    for (const Tensor* tensor : {&weight.data, &weight.scales, &weight.offsets, &weight.factors})
      if (file_of(*tensor) != nullptr) visit(*tensor);
  };
  for (const Slab& slab : layer.slabs) {
    if (!in_place) visit_weight(slab.weight);
    for (const SideBranch& branch : slab.branches) visit_weight(branch.down), visit_weight(branch.up);
  }
}

size_t mapped_bytes(const Linear& layer, bool in_place) {
  size_t bytes = 0;
  for_each_mapped(layer, in_place, [&](const Tensor& tensor) { bytes += tensor.bytes(); });
  return bytes;
}

}  // namespace

const Int8Layer& Int8Layers::of(const Linear& layer) {
  std::unique_ptr<DeviceForm>& form = layer.tolerance->form;
  const auto* kept = dynamic_cast<const Int8Layer*>(form.get());
  if (kept == nullptr || kept->owner != &functions_.int8) {
    form = nullptr;  // its memory is free for the new one
    auto made = std::make_unique<Int8Layer>();
    made->owner = &functions_.int8;
    made->factors = int8_factors(layer, pool_, functions_.vector);
    made->in_place = in_place(layer);
    made->packed = pack(layer, made->factors);
    if (!made->packed.empty()) for_each_mapped(layer, made->in_place, release_pages);  // nobody reads them again
    kept = made.get();
    form = std::move(made);
  }
  return *kept;
}

void Int8Layers::keep_at_most(size_t bytes) {
  now_ = std::min(bytes, keep_bytes_);
  left_for_others_ = 0;
  memory_.release_unused();
}

std::vector<Int8Slab> Int8Layers::pack(const Linear& layer, const Int8Factors& factors) {
  std::vector<Int8Slab> packed;
  if (!layer.tolerance->often_used) return packed;
  const size_t bytes = packed_bytes(layer);
  if (memory_.current() + bytes > now_ || available_memory() < left_for_others_ + bytes) return packed;
  const bool lies_there = in_place(layer);
  for (const Slab& slab : layer.slabs) {
    Int8Slab& kept = packed.emplace_back();
    if (!lies_there) kept.weight = pack(slab.weight, &factors);
    for (const SideBranch& branch : slab.branches)
      kept.branches.push_back({pack(branch.down, &factors), pack(branch.up, nullptr)});
  }
  return packed;
}

Kept Int8Layers::kept_of(std::span<const Linear* const> layers, const KeepRoom& room) const {
  Kept kept;
  size_t factors = 0;
  for (const Linear* layer : layers) {
    factors += 2 * static_cast<size_t>(layer->in()) * sizeof(float);
    if (!layer->tolerance->often_used) continue;
    const size_t bytes = kept.bytes + packed_bytes(*layer);
    const size_t released = kept.released + (room.mapped ? mapped_bytes(*layer, in_place(*layer)) : 0);
    if (bytes <= std::min(keep_bytes_, room.bytes) && bytes <= room.net + released) kept = {bytes, released};
  }
  kept.bytes += factors;
  return kept;
}

size_t Int8Layers::packed_bytes(const Linear& layer) const {
  size_t bytes = 0;
  const bool lies_there = in_place(layer);
  for (const Slab& slab : layer.slabs) {
    if (!lies_there) bytes += packed_bytes(slab.weight);
    for (const SideBranch& branch : slab.branches) bytes += packed_bytes(branch.down) + packed_bytes(branch.up);
  }
  return bytes;
}

Int8Packed Int8Layers::view(const Weight& weight) const {
  Int8Packed packed = {.memory = weight.data.buffer()};
  for (int64_t begin = 0; begin < weight.in; begin += kMixedPanel)
    packed.panels.emplace_back(functions_.int8, weight, begin);
  return packed;
}

size_t Int8Layers::packed_bytes(const Weight& w) const {
  const int64_t depth = panel_depth(functions_.int8, w.in);
  int64_t bytes = 0;
  for (int64_t begin = 0; begin < w.in; begin += depth)
    bytes += Int8Panel::bytes(functions_.int8, w.out, std::min(depth, w.in - begin));
  return static_cast<size_t>(bytes);
}

Int8Packed Int8Layers::pack(const Weight& w, const Int8Factors* factors) {
  const Int8Ops& int8 = functions_.int8;
  const int64_t depth = panel_depth(int8, w.in);
  Int8Packed packed = {.memory = memory_.allocate(packed_bytes(w))};
  auto* to = static_cast<std::byte*>(packed.memory->data);
  for (int64_t begin = 0; begin < w.in; begin += depth) {
    packed.panels.emplace_back(int8, PanelRange{0, w.out, begin, std::min(begin + depth, w.in)}, to);
    to += Int8Panel::bytes(int8, w.out, packed.panels.back().range().depth());
  }
  const Int8Packer packer(functions_, w, factors);
  WorkerScratch rooms(pool_.threads());
  const int64_t strips = divide_up(w.out, strip_width(int8));
  pool_.run(strips * static_cast<int64_t>(packed.panels.size()), [&](int64_t task, int worker) {
    packer.pack_strip(packed.panels[static_cast<size_t>(task / strips)], task % strips * strip_width(int8),
                      rooms.floats(worker, packer.room()));
  });
  return packed;
}

}  // namespace inkstone
