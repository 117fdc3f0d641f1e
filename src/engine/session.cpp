#include "engine/session.h"

#include <algorithm>

#include "engine/component_totals.h"
#include "ops/quantity.h"

namespace inkstone {
namespace {

constexpr size_t kCachedPrompts = 16;

HeldType held_type(HeldAs held_as) {
  switch (held_as) {
    case HeldAs::f32:
      return DType::f32;
    case HeldAs::bf16:
      return DType::bf16;
    case HeldAs::stored:
      break;
  }
  return std::nullopt;
}

}  // namespace

Tensor PromptCache::find(const PromptTokens& tokens) const {
  const auto same =
      std::find_if(entries_.begin(), entries_.end(), [&](const Entry& entry) { return entry.ids == tokens.ids; });
  return same == entries_.end() ? Tensor() : same->embeddings;
}

void PromptCache::add(const PromptTokens& tokens, const Tensor& embeddings) {
  if (entries_.size() == kCachedPrompts) entries_.pop_front();
  entries_.push_back({tokens.ids, embeddings});
}

Session::Session(const EngineOptions& options)
    : options_(options), held_(held_type(options.held_as)), model_(open_model(options)), machine_(options) {}

std::vector<std::string> Session::describe() {
  std::vector<std::string> lines = {machine_.device().describe()};
  for (const Checkpoint* files : {&model_.transformer_files, &model_.text_encoder_files, &model_.vae_files}) {
    const ComponentTotals totals = totals_of(*files);
    lines.push_back(fmt::format("{}: {}, {} in {}'s layout, {} parameters, {}", name_of(files->component),
                                files->path.string(), totals.format, files->scheme->name,
                                quantity(static_cast<double>(totals.parameters), ""),
                                quantity(static_cast<double>(totals.bytes), "B")));
  }
  return lines;
}

Tensor Session::encode(const TextEncoderWeights& weights, const PromptTokens& tokens) {
  Ops& ops = machine_.ops();
  const auto length = static_cast<int64_t>(tokens.ids.size());
  const Tensor states =
      encode_text(ops, model_.text_encoder, weights, ops.upload(host_tensor(tokens.ids)), Sequences::equal(1, length));
  return ops.concat_rows({states.rows(tokens.dropped, length)});  // a copy, so that the whole need not be kept
}

std::vector<Tensor> Session::encode(std::span<const PromptTokens> prompts) {
  std::optional<TextEncoderWeights> weights;
  std::vector<Tensor> all;
  for (const PromptTokens& tokens : prompts) {
    Tensor embeddings = prompts_.find(tokens);
    if (!embeddings) {
      WeightLoader loader(model_.text_encoder_files, machine_.device(), held_);
      if (!weights) weights = load_text_encoder(model_.text_encoder, loader);
      embeddings = encode(*weights, tokens);
      prompts_.add(tokens, embeddings);
    }
    all.push_back(embeddings);
  }
  return all;
}

const TransformerWeights& Session::transformer() {
  if (!transformer_) {
    WeightLoader loader(model_.transformer_files, machine_.device(), held_);
    transformer_ = load_transformer(model_.transformer, loader);
  }
  return *transformer_;
}

const VaeWeights& Session::vae() {
  if (!vae_) {
    WeightLoader loader(model_.vae_files, machine_.device(), held_);
    vae_ = load_vae(model_.vae, loader);
  }
  return *vae_;
}

}  // namespace inkstone
