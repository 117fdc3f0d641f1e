// Bytes of a model's weights: in files, bound, on the way to a device.
#pragma once
#include <vector>

#include "engine/uploaded_blocks.h"
#include "io/weight_loader.h"
#include "model/text_encoder.h"
#include "model/transformer.h"

namespace inkstone {

/// Weights of a component: copies in memory of their own, and what is read where it is mapped.
struct WeightBytes {
  size_t own = 0;
  size_t mapped = 0;
};

/// How weights are bound.
struct WeightHolding {
  HeldType held = std::nullopt;
  bool copied = false;  ///< all of them, to a device with memory of its own; else only converted ones
};

WeightBytes weight_bytes(const Checkpoint& files, const WeightHolding& holding);

/// What a device holds of a component once one of its layers is bound, rounded or not: `bytes` before.
size_t bound_bytes(size_t bytes, const Device& device, const Linear& layer, HeldType held);

/// What it takes more of a device to take LoRAs into weights of few bits.
size_t widening_bytes(const Device& device, const TransformerWeights& transformer, HeldType held);

size_t sum_of(const std::vector<FileBlock>& blocks);

/// What a device with memory of its own takes for streaming.
struct UploadBytes {
  size_t encoder_rest = 0, transformer_rest = 0;       // what is not streamed
  size_t all_modulations = 0;                          // of all blocks
  size_t layers = 0, modulations = 0;                  // two slabs
  size_t blocks_from_host = 0, blocks_from_files = 0;  // likewise, and what the device makes of a block
};

/// `text_encoder_bytes`, `transformer_bytes`: on the device while nothing is streamed and no layer rounded.
UploadBytes upload_bytes(const TextEncoderWeights& text_encoder, size_t text_encoder_bytes,
                         const TransformerWeights& transformer, size_t transformer_bytes, const Device& device);

/// One of the transformer's blocks without its modulation.
struct BlockBytes {
  size_t in_files = 0;
  size_t in_place = 0;  ///< while it is not streamed: on a device with memory of its own, or mapped
  size_t on_host = 0;   ///< of such a device, while it is streamed from there
};

std::vector<BlockBytes> block_bytes(const TransformerWeights& transformer, const Device& device, bool weights_copied);

}  // namespace inkstone
