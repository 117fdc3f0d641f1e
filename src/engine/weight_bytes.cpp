#include "engine/weight_bytes.h"

#include <algorithm>

namespace inkstone {
namespace {

constexpr int kCausalFrames = 3;  // of a kernel of the VAE, of which the last is kept

/// Elements of a tensor that end up in memory of their own.
int64_t copied_elements(const Checkpoint& files, const std::string& name, const Tensor& stored, HeldType held) {
  const int rank = stored.shape().rank();
  if (rank == 5) return stored.count() / kCausalFrames;  // kernels are always reordered
  if (rank == 4) return stored.count();
  if (rank == 1) return stored.dtype() == DType::f32 ? 0 : stored.count();
  if (!held || rank < 2 || !name.ends_with(kWeightSuffix) || stored.dtype() == *held) return 0;
  const Shape dense = files.shape_of(name).value_or(stored.shape());
  const bool packed = dense != stored.shape();
  return packed && *held == DType::bf16 ? 0 : dense.count();
}

size_t bytes_as_held(const Weight& w, HeldType held) {
  const bool packed = w.data.shape() != Shape{w.out, w.in};
  if (!held || (packed && held == DType::bf16)) return bytes_of(w);
  return static_cast<size_t>(w.out * w.in) * size_of(*held);
}

size_t bytes_as_held(const Linear& layer, HeldType held) {
  size_t bytes = 0;
  for (const Slab& slab : layer.slabs) {
    bytes += bytes_as_held(slab.weight, held);
    for (const SideBranch& branch : slab.branches) bytes += bytes_of(branch.down) + bytes_of(branch.up);
  }
  return bytes;
}

/// What a device's pool gives, at most, for a bound layer.
size_t pool_bytes(const Device& device, Linear layer) {
  size_t bytes = 0;
  if (const std::optional<size_t> rounded = device.rounded_bytes(layer)) {
    bytes = device.pool_bytes(*rounded);
    for (const Slab& slab : layer.slabs)
      if (slab.bias) bytes += device.pool_bytes(slab.bias.bytes());
  } else {
    for_each_tensor(layer, [&](const Tensor& tensor) { bytes += device.pool_bytes(tensor.bytes()); });
  }
  return bytes;
}

/// Of the tensors of all blocks' layers.
template <class Block, class ForEach>
size_t sum_of(const std::vector<Block>& blocks, const ForEach& for_each) {
  size_t sum = 0;
  for (Block block : blocks) for_each_tensor_of(block, for_each, [&](const Tensor& tensor) { sum += tensor.bytes(); });
  return sum;
}

size_t rest(size_t all, size_t streamed) { return all - std::min(all, streamed); }

}  // namespace

WeightBytes weight_bytes(const Checkpoint& files, const WeightHolding& holding) {
  const HeldType held = holding.held;
  WeightBytes bytes;
  for (const auto& [name, stored] : files.tensors) {
    if (is_unused_text_tensor(files, name)) continue;
    const auto elements = static_cast<size_t>(copied_elements(files, name, stored.data, held));
    const bool vector = stored.data.shape().rank() == 1;
    if (elements > 0)
      bytes.own += elements * (vector ? sizeof(float) : size_of(held.value_or(stored.data.dtype())));
    else if (holding.copied)
      bytes.own += stored.data.bytes();
    else if (file_of(stored.data) != nullptr)
      bytes.mapped += stored.data.bytes();
  }
  for (const auto& [layer, branches] : files.branches)
    for (const StoredBranch& branch : branches)
      (holding.copied ? bytes.own : bytes.mapped) += branch.down.data.bytes() + branch.up.data.bytes();
  return bytes;
}

size_t bound_bytes(size_t bytes, const Device& device, const Linear& layer, HeldType held) {
  size_t as_held = bytes_as_held(layer, held);
  for (const Slab& slab : layer.slabs) as_held += slab.bias ? slab.bias.bytes() : 0;
  bytes += device.rounded_bytes(layer) || !held ? pool_bytes(device, layer) : as_held;
  return bytes - std::min(bytes, as_held);
}

size_t widening_bytes(const Device& device, const TransformerWeights& transformer, HeldType held) {
  size_t bytes = 0;
  for (BlockWeights block : transformer.blocks)
    for_each_block_layer(block, [&](const Linear& layer) {
      const size_t now = device.rounded_bytes(layer).value_or(bytes_as_held(layer, held));
      bytes += std::max(device.widened_bytes(layer).value_or(now), now) - now;
    });
  return bytes;
}

size_t sum_of(const std::vector<FileBlock>& blocks) {
  size_t sum = 0;
  for (const FileBlock& block : blocks)
    for (const FilePart& part : block) sum += part.bytes;
  return sum;
}

UploadBytes upload_bytes(const TextEncoderWeights& text_encoder, size_t text_encoder_bytes,
                         const TransformerWeights& transformer, size_t transformer_bytes, const Device& device) {
  const std::vector<EncoderLayer>& layers = text_encoder.layers;
  const std::vector<BlockWeights>& blocks = transformer.blocks;
  UploadBytes bytes;
  bytes.encoder_rest = rest(text_encoder_bytes, sum_of(layers, kEncoderLayers));
  bytes.all_modulations = sum_of(blocks, kModulationLayers);
  bytes.transformer_rest = rest(transformer_bytes, sum_of(blocks, kBlockLayers) + bytes.all_modulations);
  bytes.layers = 2 * upload_bytes(layers, kEncoderLayers, all_of(layers));
  bytes.modulations = 2 * upload_bytes(blocks, kModulationLayers, all_of(blocks));
  size_t rounded_slab = 0, form = 0;
  for (BlockWeights block : blocks) {
    size_t on_host = 0, formed = 0;
    for_each_block_layer(block, [&](const Linear& layer) {
      on_host += HostWeights::most_bytes(device, layer);
      formed += device.rounded_bytes(layer).value_or(0);
    });
    rounded_slab = std::max(rounded_slab, on_host);
    form = std::max(form, formed);
  }
  bytes.blocks_from_host = 2 * rounded_slab + form;
  bytes.blocks_from_files = 2 * upload_bytes(blocks, kBlockLayers, all_of(blocks)) + form;
  return bytes;
}

std::vector<BlockBytes> block_bytes(const TransformerWeights& transformer, const Device& device, bool weights_copied) {
  std::vector<BlockBytes> all;
  for (BlockWeights block : transformer.blocks) {
    BlockBytes& bytes = all.emplace_back();
    for_each_tensor_of(block, kBlockLayers, [&](const Tensor& tensor) {
      if (file_of(tensor) != nullptr) bytes.in_files += tensor.bytes();
    });
    bytes.in_place = bytes.in_files;
    if (!weights_copied) continue;
    bytes.in_place = 0;
    for_each_block_layer(block, [&](const Linear& layer) {
      bytes.in_place += pool_bytes(device, layer);
      bytes.on_host += HostWeights::most_bytes(device, layer);
    });
  }
  return all;
}

}  // namespace inkstone
