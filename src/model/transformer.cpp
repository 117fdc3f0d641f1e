#include "model/transformer.h"

#include "model/rope.h"

namespace inkstone {
namespace {

constexpr int64_t kTimeFeatures = 256;  // Timesteps(num_channels=256) of QwenTimestepProjEmbeddings
constexpr float kEps = 1e-6f;           // of every norm in the transformer
constexpr int64_t kMlpRatio = 4;        // FeedForward(mult=4)

// Order of a block's modulation vectors, and of the output head's.
enum BlockSlot : int64_t { kShift1, kScale1, kGate1, kShift2, kScale2, kGate2, kBlockSlots };
enum HeadSlot : int64_t { kHeadScale, kHeadShift, kHeadSlots };

/// Names of one stream's layers in a block, which the files do not build alike.
struct StreamNames {
  const char *modulation, *q, *k, *v, *q_norm, *k_norm, *out, *mlp;
};
constexpr StreamNames kImageNames = {"img_mod.1",   "attn.to_q",   "attn.to_k",     "attn.to_v",
                                     "attn.norm_q", "attn.norm_k", "attn.to_out.0", "img_mlp"};
constexpr StreamNames kTextNames = {"txt_mod.1",         "attn.add_q_proj",   "attn.add_k_proj", "attn.add_v_proj",
                                    "attn.norm_added_q", "attn.norm_added_k", "attn.to_add_out", "txt_mlp"};

/// Tolerant are the layers that do nearly all of the work: what each rounds is small beside the residual that it adds
/// to.
StreamWeights load_stream(const TransformerConfig& c, WeightLoader& load, const std::string& block,
                          const StreamNames& n) {
  const int64_t d = c.width();
  return {
      .modulation = load.linear(block + n.modulation, kBlockSlots * d, d),
      .qkv = load.tolerant(load.linear({{block + n.q, d}, {block + n.k, d}, {block + n.v, d}}, d, Bias::present)),
      .q_norm = load.vector(block + n.q_norm + ".weight", c.head_width),
      .k_norm = load.vector(block + n.k_norm + ".weight", c.head_width),
      .out = load.tolerant(load.linear(block + n.out, d, d)),
      .up = load.tolerant(load.linear(block + n.mlp + ".net.0.proj", kMlpRatio * d, d)),
      .down = load.tolerant(load.linear(block + n.mlp + ".net.2", d, kMlpRatio * d)),
  };
}

/// One stream's half of a block at work.
struct Half {
  const StreamWeights& w;
  Tensor x;  // (n, d)
  const Sequences& sequences;
  const RopeTable& rope;
  Tensor table;  // (steps * 6, d)
  Tensor row;    // i32 (sequences)

  SequenceRows at(int64_t slot) const { return {table, row, slot, &sequences}; }
};

template <class Part>
std::vector<Part> for_each_half(const std::vector<Half>& halves, const auto& part) {
  std::vector<Part> parts;
  for (size_t i = 0; i < halves.size(); ++i) parts.push_back(part(halves[i], i));
  return parts;
}

/// Attention over both streams: (n_txt, d), (n_img, d). `feeds`: what reads them.
std::vector<Tensor> joint_attention(Ops& ops, const std::vector<Half>& halves, const Heads& heads,
                                    const std::vector<const Linear*>& feeds) {
  const auto normed = ops.layer_norm_modulate(
      for_each_half<ModulatePart>(halves,
                                  [](const Half& h, size_t) {
                                    return ModulatePart{h.x, h.at(kShift1), h.at(kScale1), &h.w.qkv};
                                  }),
      kEps);
  const auto qkv = ops.linear(for_each_half<LinearPart>(halves, [&](const Half& h, size_t i) {
    return LinearPart{normed[i], &h.w.qkv};
  }));
  return ops.attention(
      ops.join_qkv(for_each_half<QkvPart>(halves,
                                          [&](const Half& h, size_t i) {
                                            return QkvPart{qkv[i], &h.sequences, h.w.q_norm, h.w.k_norm, h.rope};
                                          }),
                   heads, kEps),
      {.tolerant = true, .feeds = feeds});
}

/// x + gate1 * out(attended), then + gate2 * mlp of that, for each stream.
std::vector<Tensor> feed_forward(Ops& ops, const std::vector<Half>& halves, const std::vector<Tensor>& attended) {
  const auto y = ops.linear(for_each_half<LinearPart>(halves, [&](const Half& h, size_t i) {
    return LinearPart{attended[i], &h.w.out, {.gate = h.at(kGate1), .residual = h.x}};
  }));
  const auto normed = ops.layer_norm_modulate(
      for_each_half<ModulatePart>(halves,
                                  [&](const Half& h, size_t i) {
                                    return ModulatePart{y[i], h.at(kShift2), h.at(kScale2), &h.w.up};
                                  }),
      kEps);
  const auto up = ops.linear(for_each_half<LinearPart>(halves, [&](const Half& h, size_t i) {
    return LinearPart{normed[i], &h.w.up, {.activation = Activation::gelu_tanh, .feeds = &h.w.down}};
  }));
  return ops.linear(for_each_half<LinearPart>(halves, [&](const Half& h, size_t i) {
    return LinearPart{up[i], &h.w.down, {.gate = h.at(kGate2), .residual = y[i]}};
  }));
}

}  // namespace

TransformerWeights load_transformer(const TransformerConfig& config, WeightLoader& loader) {
  const int64_t d = config.width();
  const std::string time = "time_text_embed.timestep_embedder.";
  TransformerWeights w;
  w.img_in = loader.linear("img_in", d, config.in_channels);
  w.txt_norm = loader.vector("txt_norm.weight", config.text_width);
  w.txt_in = loader.linear("txt_in", d, config.text_width);
  w.time_1 = loader.linear(time + "linear_1", d, kTimeFeatures);
  w.time_2 = loader.linear(time + "linear_2", d, d);
  for (int64_t i = 0; i < config.layers; ++i) {
    const std::string block = fmt::format("transformer_blocks.{}.", i);
    w.blocks.push_back({.txt = load_stream(config, loader, block, kTextNames),
                        .img = load_stream(config, loader, block, kImageNames)});
  }
  w.norm_out = loader.linear("norm_out.linear", kHeadSlots * d, d);
  w.proj_out = loader.linear("proj_out", config.patch * config.patch * config.out_channels, d);
  loader.finish();
  return w;
}

Tensor Transformer::time_embedding(Ops& ops, const Tensor& times) const {
  const Tensor waves = ops.timestep_embedding(times, kTimeFeatures);  // (steps, 256)
  const Tensor hidden = ops.linear(waves, weights_.time_1, {.activation = Activation::silu});
  return ops.linear(hidden, weights_.time_2, {.activation = Activation::silu});  // every reader takes silu(temb)
}

ModulationTables Transformer::modulate(Ops& ops, const Tensor& times) const {
  const int64_t steps = times.dim(0);
  const int64_t d = config_.width();
  const Tensor temb = time_embedding(ops, times);  // (steps, d)
  ModulationTables tables;
  for (size_t i = 0; i < weights_.blocks.size(); ++i) {
    const BlockWeights& w = weights_.modulation(i);
    const auto rows = ops.linear({{temb, &w.txt.modulation}, {temb, &w.img.modulation}});
    tables.blocks.push_back(
        {.txt = rows[0].reshape({steps * kBlockSlots, d}), .img = rows[1].reshape({steps * kBlockSlots, d})});
  }
  tables.head = ops.linear(temb, weights_.norm_out).reshape({steps * kHeadSlots, d});
  return tables;
}

Conditioning Transformer::condition(Ops& ops, const Tensor& embeddings, const Sequences& txt_rows,
                                    const Grid& grid) const {
  const int64_t pictures = txt_rows.count();
  return {
      .txt = ops.linear(ops.rms_norm(embeddings, weights_.txt_norm, {.eps = kEps}), weights_.txt_in),
      .txt_rows = txt_rows,
      .img_rows = Sequences::equal(pictures, grid.tokens()),
      .txt_rope = {ops.upload(text_rope(txt_rows, grid, config_.rope_axes))},
      .img_rope = {ops.upload(image_rope(grid, pictures, config_.rope_axes))},
  };
}

StepRows Transformer::rows_of_step(Ops& ops, int64_t step, int64_t sequences) {
  const auto rows = [&](int64_t slots) {
    const std::vector<int32_t> row(static_cast<size_t>(sequences), static_cast<int32_t>(step * slots));
    return ops.upload(host_tensor(row));
  };
  return {.block = rows(kBlockSlots), .head = rows(kHeadSlots)};
}

Tensor Transformer::embed_image(Ops& ops, const Tensor& tokens) const { return ops.linear(tokens, weights_.img_in); }

Transformer::Streams Transformer::block(Ops& ops, size_t index, const Streams& x, const Conditioning& condition,
                                        const ModulationTables& tables, const StepRows& rows) const {
  const Heads heads = {.heads = config_.heads, .kv_heads = config_.heads, .width = config_.head_width};
  const BlockWeights& w = weights_.block(index);
  const ModulationTables::Block& table = tables.blocks[index];
  const Half txt = {w.txt, x.txt, condition.txt_rows, condition.txt_rope, table.txt, rows.block};
  const Half img = {w.img, x.img, condition.img_rows, condition.img_rope, table.img, rows.block};

  const bool is_last = index + 1 == weights_.blocks.size();
  const auto attended = joint_attention(ops, {txt, img}, heads, {is_last ? nullptr : &w.txt.out, &w.img.out});
  if (is_last) return {.txt = {}, .img = feed_forward(ops, {img}, {attended[1]})[0]};
  const auto y = feed_forward(ops, {txt, img}, attended);
  return {.txt = y[0], .img = y[1]};
}

Tensor Transformer::head(Ops& ops, const Tensor& img, const Conditioning& condition, const ModulationTables& tables,
                         const StepRows& rows) const {
  const auto at = [&](int64_t slot) { return SequenceRows{tables.head, rows.head, slot, &condition.img_rows}; };
  const auto normed = ops.layer_norm_modulate({{img, at(kHeadShift), at(kHeadScale), &weights_.proj_out}}, kEps);
  return ops.linear(normed.front(), weights_.proj_out);
}

Tensor Transformer::forward(Ops& ops, const Tensor& tokens, const Conditioning& condition,
                            const ModulationTables& tables, const StepRows& rows) const {
  Streams x = {.txt = condition.txt, .img = embed_image(ops, tokens)};
  for (size_t i = 0; i < weights_.blocks.size(); ++i) x = block(ops, i, x, condition, tables, rows);
  return head(ops, x.img, condition, tables, rows);
}

}  // namespace inkstone
