// The two-stream diffusion transformer of Qwen-Image (QwenImageTransformer2DModel of diffusers).
//
// Details that have caused bugs elsewhere:
// * Modulation of a block is shift, scale, gate, twice; of the output head scale, then shift.
// * In the joint attention the text comes first; q and k are normed per head, then rotated in neighbouring pairs.
// * An odd grid has its extra row and column on the negative side; text positions start at half of the larger side.
// * Time embedding: cosines first, and the model multiplies sigma by 1000 itself.
// * txt_norm is an RMS norm before txt_in; the output head has a LayerNorm without weights.
// * Nothing reads the text stream after the last block's attention.
#pragma once
#include <vector>

#include "io/weight_loader.h"
#include "model/block_source.h"
#include "model/config.h"
#include "model/latents.h"
#include "ops/ops.h"

namespace inkstone {

/// The image half or the text half of a block.
struct StreamWeights {
  Linear modulation;      // d -> 6d
  Linear qkv;             // d -> 3d
  Tensor q_norm, k_norm;  // (head_width)
  Linear out;             // d -> d
  Linear up;              // d -> 4d
  Linear down;            // 4d -> d
};

struct BlockWeights {
  StreamWeights txt, img;
};

struct TransformerWeights {
  Linear img_in;          // in_channels -> d
  Tensor txt_norm;        // (text_width)
  Linear txt_in;          // text_width -> d
  Linear time_1, time_2;  // 256 -> d, d -> d
  std::vector<BlockWeights> blocks;
  Linear norm_out;  // d -> 2d
  Linear proj_out;  // d -> patch² * out_channels

  /// Where modulation layers come from, and all others of the blocks.
  WeightSource<BlockWeights> modulation_source, block_source;

  const BlockWeights& modulation(size_t i) const { return modulation_source ? modulation_source(i) : blocks[i]; }
  const BlockWeights& block(size_t i) const { return block_source ? block_source(i) : blocks[i]; }
};

/// The layers that TransformerWeights::modulation() is asked for.
void for_each_modulation_layer(BlockWeights& block, const auto& visit) {
  for (StreamWeights* w : {&block.txt, &block.img}) visit(w->modulation);
}

/// The layers that TransformerWeights::block() is asked for.
void for_each_block_layer(BlockWeights& block, const auto& visit) {
  for (StreamWeights* w : {&block.txt, &block.img})
    for (Linear* layer : {&w->qkv, &w->out, &w->up, &w->down}) visit(*layer);
}

/// The tensors of all else.
void for_each_other_tensor(TransformerWeights& weights, const auto& visit) {
  for (Linear* layer :
       {&weights.img_in, &weights.txt_in, &weights.time_1, &weights.time_2, &weights.norm_out, &weights.proj_out})
    for_each_tensor(*layer, visit);
  visit(weights.txt_norm);
  for (BlockWeights& block : weights.blocks)
    for (StreamWeights* w : {&block.txt, &block.img})
      for (Tensor* norm : {&w->q_norm, &w->k_norm}) visit(*norm);
}

/// Binds all layers; in the last block those of the text stream that are not needed are still bound (files hold them).
TransformerWeights load_transformer(const TransformerConfig& config, WeightLoader& loader);

/// What depends on the time alone: the modulation vectors of all steps, for all blocks. They are the same for every
/// prompt, picture and branch of the guidance, and a third of the weights is only read to make them.
struct ModulationTables {
  struct Block {
    Tensor txt, img;  // (steps * 6, d): shift, scale, gate, shift, scale, gate of each step
  };
  std::vector<Block> blocks;
  Tensor head;  // (steps * 2, d): scale, shift of each step
};

/// The rows of the tables that each sequence uses in one step.
struct StepRows {
  Tensor block;  // i32 (sequences): 6 * step
  Tensor head;   // i32 (sequences): 2 * step
};

/// What the steps of a run share: the text of every sequence, where its rows lie, and all positions.
struct Conditioning {
  Tensor txt;  // (n_txt, d), after txt_in
  Sequences txt_rows, img_rows;
  RopeTable txt_rope, img_rope;
};

class Transformer {
 public:
  Transformer(const TransformerConfig& config, const TransformerWeights& weights)
      : config_(config), weights_(weights) {}

  /// `times` f32 (steps): the sigma of each step.
  ModulationTables modulate(Ops& ops, const Tensor& times) const;

  /// `embeddings` (n_txt, text_width): the text encoder's rows of all sequences, `txt_rows` where each sequence lies.
  /// Every sequence draws one picture of `grid`.
  Conditioning condition(Ops& ops, const Tensor& embeddings, const Sequences& txt_rows, const Grid& grid) const;

  /// The rows of `step` in the tables, for `sequences` sequences.
  static StepRows rows_of_step(Ops& ops, int64_t step, int64_t sequences);

  /// Velocity (n_img, patch² * out_channels) for packed latents `tokens` (n_img, in_channels), n_img rows of all
  /// sequences.
  Tensor forward(Ops& ops, const Tensor& tokens, const Conditioning& condition, const ModulationTables& tables,
                 const StepRows& rows) const;

  /// Whether all calls of forward() read the same weights in the same places.
  bool stays_in_place() const { return !weights_.block_source; }

  /// img_in, one block (text first; only the image after the last), and the output head: the parts of forward().
  Tensor embed_image(Ops& ops, const Tensor& tokens) const;
  struct Streams {
    Tensor txt, img;  // (n_txt, d), (n_img, d)
  };
  Streams block(Ops& ops, size_t index, const Streams& x, const Conditioning& condition, const ModulationTables& tables,
                const StepRows& rows) const;
  Tensor head(Ops& ops, const Tensor& img, const Conditioning& condition, const ModulationTables& tables,
              const StepRows& rows) const;

 private:
  Tensor time_embedding(Ops& ops, const Tensor& times) const;

  const TransformerConfig& config_;
  const TransformerWeights& weights_;
};

}  // namespace inkstone
