// Headers of safetensors files, and what names and packing are made of them.
#include <cstdlib>

#include "io/scheme.h"
#include "ops/mixed_order.h"

namespace inkstone {
namespace {

/// Stops the fuzzer: the parser let something through.
void require(bool ok) {
  if (!ok) std::abort();
}

TensorMap stored_tensors(const SafetensorsHeader& header, const std::shared_ptr<Buffer>& buffer) {
  TensorMap stored;
  size_t end = 0;
  for (const SafetensorsEntry& e : header.entries) {
    require(e.begin <= e.end && e.end <= buffer->bytes);
    require(end == 0 || e.begin == end);
    require(static_cast<size_t>(e.shape.count()) * size_of(e.dtype) == e.end - e.begin);
    end = e.end;
    stored.emplace(e.name, StoredTensor{Tensor(buffer, e.begin, e.shape, e.dtype), "file", e.name});
  }
  require(stored.size() == header.entries.size());
  return stored;
}

/// Every number of a matrix in the order of the cpu's kernels lies within its parts.
void check_mixed(const Weight& w) {
  const bool small = w.format == WeightFormat::affine4;
  require(small ? MixedOrder::takes_small(w.out, w.in) : MixedOrder::takes(w.out, w.in));
  require(static_cast<int64_t>(w.data.bytes()) == w.out * (small ? w.in / 2 : w.in));
  require(!small || w.offsets.count() == 2 * MixedOrder::small_groups_in(w.in) * w.out);
  require(w.scales.count() == MixedOrder::groups_in(w.in) * w.out && w.factors.count() == w.in);
  std::vector<float> numbers(static_cast<size_t>(w.in));
  for (int64_t row = 0; row < w.out; ++row) dequantize_rows(w, row, row + 1, numbers.data());
}

/// What a scheme makes of layers: matrices whose parts fit each other.
void check_packed(const Scheme& scheme, const TensorMap& stored) {
  constexpr size_t kSuffix = sizeof(".weight") - 1;
  for (const auto& item : stored) {
    const std::string& name = item.first;
    if (!name.ends_with(".weight")) continue;
    try {
      const auto packed = scheme.packed(stored, name.substr(0, name.size() - kSuffix));
      if (!packed) continue;
      const Weight& w = packed->weight;
      if (w.factors) {
        check_mixed(w);
        continue;
      }
      const BlockLayout& layout = layout_of(w.format);
      require(w.in % layout.numbers == 0);
      require(static_cast<int64_t>(w.data.bytes()) == w.out * (w.in / layout.numbers * layout.bytes));
      if (w.scales) require(w.group > 0 && w.scales.count() == w.out * (w.in / w.group));
    } catch (const Error&) {
    }
  }
}

void run(std::span<const std::byte> bytes) {
  const SafetensorsHeader header = parse_safetensors(bytes, "file");
  const auto buffer = std::make_shared<Buffer>(const_cast<std::byte*>(bytes.data()), bytes.size());
  const TensorMap stored = stored_tensors(header, buffer);
  for (const Component component : {Component::transformer, Component::text_encoder, Component::vae}) {
    for (const Scheme* scheme : schemes()) {
      scheme->recognises(component, stored);
      const Renaming renaming = scheme->renaming(component, stored);
      for (const auto& item : stored) renaming(item.first);
    }
  }
  for (const Scheme* scheme : {&quantized_scheme(), &mlx_scheme(), &comfy_scheme()}) check_packed(*scheme, stored);
}

}  // namespace
}  // namespace inkstone

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    inkstone::run({reinterpret_cast<const std::byte*>(data), size});
  } catch (const inkstone::Error&) {
  }
  return 0;
}
