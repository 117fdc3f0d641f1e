#include "engine/session.h"

#include <algorithm>

#include "core/quantity.h"
#include "engine/component_totals.h"
#include "engine/fingerprint.h"
#include "engine/finite.h"
#include "engine/uploaded_blocks.h"

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

/// What WeightLoader does with a layer that tolerates rounding, for one that was left on the host.
void bind_layer(Device& device, Linear& layer, const std::stop_token& stop) {
  if (stop.stop_requested()) throw Cancelled();
  device.upload_weights(layer);
  device.round_weights(layer);
}

/// What a measurement took of the arithmetics of 16 bits, so that a picture tells how to draw it again anywhere.
Arithmetic arithmetic_of(const HalfChoice& half) {
  if (half.ops == nullptr) return Arithmetic::f32;
  return half.ops->kind == HalfKind::fp16 ? Arithmetic::fp16 : Arithmetic::bf16;
}

bool is_bound(BlockPlace place) { return place == BlockPlace::bound || place == BlockPlace::bound_wide; }

/// Who compares devices or takes times wants to see every op.
bool keeps_prompts(const EngineOptions& options) { return !options.compare && !options.profile; }

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

Session::Session(const EngineOptions& options, const Decorate& decorate)
    : options_(options),
      held_(held_type(options.held_as)),
      model_(open_model(options)),
      machine_(options, decorate),
      store_(keeps_prompts(options) ? options.prompt_cache : std::filesystem::path(), options.prompt_cache_bytes) {
  const DeviceChoice& choice = machine_.choice();
  options_.device = choice.kind;
  if (machine_.half()) options_.arithmetic = arithmetic_of(*machine_.half());
  if (!choice.note.empty()) model_.notes.push_back(choice.note);
  if (held_ || !machine_.device().own_memory()) return;
  for (const Checkpoint* files : model_.files())
    if (files->has_mixed()) {
      held_ = DType::bf16;
      model_.notes.push_back(fmt::format(
          "the {}'s matrices lie as the cpu's kernels read them, and are unpacked to bf16", name_of(files->component)));
    }
}

std::string Session::half_kind() const { return machine_.half() ? name_of(*machine_.half()) : ""; }

std::string Session::lossy_weights() const {
  std::vector<std::string> losses;
  for (const Checkpoint* files : model_.files()) {
    std::vector<std::string> of_component;
    if (const std::string packed = totals_of(*files).packed; !packed.empty())
      of_component.push_back("stored in " + packed);
    if (held_ == DType::bf16 && loses_in_bf16(*files)) of_component.emplace_back("rounded to bf16");
    if (!of_component.empty())
      losses.push_back(fmt::format("the {}'s {}{}", name_of(files->component), losses.empty() ? "are " : "",
                                   fmt::join(of_component, " and ")));
  }
  return fmt::format("{}", fmt::join(losses, ", "));
}

std::vector<std::string> Session::describe() {
  std::vector<std::string> lines = {machine_.device().describe()};
  for (const Checkpoint* files : model_.files()) {
    const ComponentTotals totals = totals_of(*files);
    lines.push_back(fmt::format("{}: {}, {} in {}'s layout, {} parameters, {}", name_of(files->component),
                                files->path.string(), totals.format, files->scheme->name,
                                quantity(static_cast<double>(totals.parameters), ""),
                                quantity(static_cast<double>(totals.bytes), "B")));
  }
  for (const Model::LoraInUse& lora : model_.loras) lines.push_back("lora: " + lora.description);
  return lines;
}

void Session::watch(const std::stop_token& stop) {
  stop_ = stop;
  machine_.watch(stop);
}

void Session::check_files() const {
  for (const Checkpoint* files : model_.files()) files->check_unchanged();
}

Tensor Session::encode(const TextEncoderWeights& weights, const PromptTokens& tokens,
                       const std::function<void()>& layer_done) {
  Ops& ops = machine_.ops();
  const auto length = static_cast<int64_t>(tokens.ids.size());
  const Tensor states = encode_text(ops, model_.text_encoder, weights, ops.upload(host_tensor(tokens.ids)),
                                    Sequences::equal(1, length), layer_done);
  return ops.concat_rows({states.rows(tokens.dropped, length)});  // a copy, so that the whole need not be kept
}

/// Broken weights must not pass for a prompt.
void Session::check_finite(const Tensor& embeddings) {
  const auto found = find_not_finite(machine_.ops().download(embeddings));
  if (!found) return;
  refuse_not_finite(model_.text_encoder_files, stop_);
  fail("{}: gives {} for this prompt, though all its weights are finite", model_.text_encoder_files.path.string(),
       *found);
}

/// What the text encoder multiplies if not f32, for keys of what it gave.
std::string Session::rounding_of_text() const {
  const auto& half = machine_.half();
  if (half && half->ops != nullptr) return fmt::format(", multiplied in {}", name_of(*half));
  return options_.arithmetic == Arithmetic::int8_all ? ", multiplied in 8 bits" : "";
}

/// All that embeddings depend on.
std::string Session::store_key(const PromptTokens& tokens) {
  if (text_encoder_print_.empty()) text_encoder_print_ = text_encoder_fingerprint(model_);
  return fmt::format("inkstone {}\n{}, weights held as {}{}\n{}without the first {} of {}", version(),
                     machine_.device().name(), held_ ? name_of(*held_) : "stored", rounding_of_text(),
                     text_encoder_print_, tokens.dropped, fmt::join(tokens.ids, " "));
}

Tensor Session::find(const PromptTokens& tokens) {
  Tensor embeddings = prompts_.find(tokens);
  if (embeddings || !store_.is_used()) return embeddings;
  const Tensor host = store_.find(store_key(tokens));
  if (!host) return {};
  embeddings = machine_.device().upload(host);
  prompts_.add(tokens, embeddings);
  return embeddings;
}

void Session::keep(const PromptTokens& tokens, const Tensor& embeddings) {
  prompts_.add(tokens, embeddings);
  if (!store_.is_used()) return;
  const Tensor host = machine_.device().download(embeddings);
  if (host.dtype() == DType::f32) store_.add(store_key(tokens), host);
}

int64_t Session::encoding_steps(std::span<const PromptTokens> prompts) {
  return model_.text_encoder.layers *
         std::ranges::count_if(prompts, [&](const PromptTokens& tokens) { return !find(tokens); });
}

std::vector<Tensor> Session::encode(std::span<const PromptTokens> prompts, const std::function<void()>& layer_done) {
  const std::optional<Caching> streamed = std::exchange(streamed_text_encoder_, std::nullopt);
  std::optional<TextEncoderWeights> weights = std::exchange(text_encoder_, std::nullopt);
  std::vector<Tensor> all;
  for (const PromptTokens& tokens : prompts) {
    Tensor embeddings = find(tokens);
    if (!embeddings) {
      if (!weights) bind_text_encoder(weights.emplace(), streamed);
      embeddings = encode(*weights, tokens, layer_done);
      check_finite(embeddings);
      check_files();  // a store would give out wrong ones for ever
      keep(tokens, embeddings);
    }
    all.push_back(embeddings);
  }
  has_encoded_ |= weights.has_value();
  if (keeps_text_encoder_ && !streamed) text_encoder_ = std::move(weights);
  weights.reset();
  model_.text_encoder_files.release_pages();
  return all;
}

void Session::keep_text_encoder(bool keeps) {
  keeps_text_encoder_ = keeps;
  if (!keeps) text_encoder_.reset();
}

/// `weights` must stay where they are if they are streamed.
void Session::bind_text_encoder(TextEncoderWeights& weights, std::optional<Caching> streaming) {
  Device& device = machine_.device();
  HostWeights host(device, HostWeights::Rounding::none);
  const bool uploads = streaming && device.own_memory();
  WeightLoader load = loader(model_.text_encoder_files, uploads ? static_cast<WeightPlace&>(host) : device, stop_);
  weights = load_text_encoder(model_.text_encoder, load);
  if (rounds_text(options_.arithmetic)) tolerate_rounding(weights);
  if (!streaming) return;
  if (!uploads) {
    weights.source = streamed(weights.layers, kEncoderLayers, all_of(weights.layers), *streaming, stop_);
    return;
  }
  for_each_other_tensor(weights, [&](Tensor& tensor) { tensor = device.upload_weight(tensor); });
  device.finish_uploads();
  weights.source = uploaded(weights.layers, kEncoderLayers, all_of(weights.layers), device, streaming, stop_);
}

void Session::stream_modulation(Caching caching) {
  const auto& blocks = transformer_->blocks;
  const StreamedSet all = all_of(blocks);
  transformer_->modulation_source = is_bound(placement_.place)
                                        ? streamed(blocks, kModulationLayers, all, caching, stop_)
                                        : uploaded(blocks, kModulationLayers, all, machine_.device(), caching, stop_);
}

void Session::stream_blocks(Caching caching) {
  const auto& blocks = transformer_->blocks;
  const StreamedSet set = {blocks.size(), placement_.streamed};
  const std::optional<Caching> from_files =
      placement_.place == BlockPlace::files ? std::optional(caching) : std::nullopt;
  transformer_->block_source = is_bound(placement_.place)
                                   ? streamed(blocks, kBlockLayers, set, caching, stop_)
                                   : uploaded(blocks, kBlockLayers, set, machine_.device(), from_files, stop_);
}

void Session::end_transformer() {
  if (transformer_) transformer_->modulation_source = transformer_->block_source = {};
  model_.transformer_files.release_pages();
}

std::optional<BlockPlacement> Session::transformer_placement() const {
  return transformer_ ? std::optional(placement_) : std::nullopt;
}

TransformerWeights Session::bind_transformer(const std::stop_token& stop) {
  WeightLoader load = loader(model_.transformer_files, machine_.device(), stop);
  TransformerWeights weights = load_transformer(model_.transformer, load);
  model_.transformer_files.release_pages();  // of what was converted
  return weights;
}

/// All on the device but the layers of blocks that shall not be there.
TransformerWeights Session::bind_on_host(const BlockPlacement& placement) {
  Device& device = machine_.device();
  HostWeights host(device, HostWeights::Rounding::none), rounding(device, HostWeights::Rounding::if_smaller);
  WeightLoader load = loader(model_.transformer_files, host, stop_);
  TransformerWeights weights = load_transformer(model_.transformer, load);
  for_each_other_tensor(weights, [&](Tensor& tensor) { tensor = device.upload_weight(tensor); });
  const StreamedSet set = {weights.blocks.size(), placement.streamed};
  ThreadPool copiers(threads());
  copiers.watch(stop_);
  for (size_t i = 0; i < weights.blocks.size(); ++i) {
    BlockWeights& block = weights.blocks[i];
    if (!set.contains(i)) {
      for_each_block_layer(block, [&](Linear& layer) { bind_layer(device, layer, stop_); });
    } else if (placement.place == BlockPlace::on_host) {  // what comes anew from files is rounded anew, too
      for_each_block_layer(block, [&](Linear& layer) { rounding.round_weights(layer); });
      pin(block, kBlockLayers, device, copiers);
    }
  }
  device.finish_uploads();
  model_.transformer_files.release_pages();
  return weights;
}

void Session::keep_transformer(TransformerWeights weights) {
  transformer_ = std::move(weights);
  placement_ = {};
}

void Session::forget_forms() {
  if (!transformer_) return;
  for (BlockWeights& block : transformer_->blocks)
    for_each_block_layer(block, [](Linear& layer) {
      if (layer.tolerance) layer.tolerance->form.reset();
    });
}

const TransformerWeights& Session::transformer(const BlockPlacement& placement) {
  const bool mapped = placement.place == BlockPlace::bound;  // then any of them can be streamed
  if (transformer_ && (placement_ == placement || (mapped && placement_.place == placement.place))) {
    placement_ = placement;
    return *transformer_;
  }
  transformer_.reset();  // there may be no room for both
  machine_.device().widen(placement.place == BlockPlace::bound_wide);
  transformer_ = is_bound(placement.place) ? bind_transformer(stop_) : bind_on_host(placement);
  placement_ = placement;
  return *transformer_;
}

const VaeWeights& Session::vae() {
  if (!vae_) {
    refuse_not_finite(model_.vae_files, stop_);  // would pass for black pixels
    WeightLoader load = loader(model_.vae_files, machine_.device(), stop_);
    vae_ = load_vae(model_.vae, load);
    model_.vae_files.release_pages();  // nearly all of it is copied
  }
  return *vae_;
}

}  // namespace inkstone
