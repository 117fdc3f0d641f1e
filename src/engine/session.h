// A model on a device: weights that are bound when first needed, and prompts that were encoded before.
#pragma once
#include <functional>
#include <list>
#include <optional>
#include <span>
#include <stop_token>

#include "core/block_reader.h"
#include "core/thread_pool.h"
#include "engine/machine.h"
#include "engine/model.h"
#include "engine/prompt_store.h"
#include "io/weight_loader.h"
#include "model/prompt.h"
#include "model/text_encoder.h"
#include "model/transformer.h"
#include "model/vae.h"

namespace inkstone {

/// Embeddings of the prompts that were encoded last, so that another seed or size costs no text encoder.
class PromptCache {
 public:
  /// (kept rows, text width); empty if there is none.
  Tensor find(const PromptTokens& tokens) const;
  void add(const PromptTokens& tokens, const Tensor& embeddings);

 private:
  struct Entry {
    std::vector<int32_t> ids;
    Tensor embeddings;
  };
  std::list<Entry> entries_;
};

/// Where the layers of the transformer's blocks are between their uses.
enum class BlockPlace : uint8_t {
  bound,        ///< on the device, or where it reads host memory in mapped files
  bound_wide,   ///< on the device, those with side branches as dense numbers, see Device::widen()
  bound_alone,  ///< on a device with memory of its own, but for the modulation, which is read from its files
  files,        ///< of a device with memory of its own, which gets them block by block
  on_host,      ///< likewise, in memory of the host from which they can be copied fast
};

/// The same with how many of the blocks are streamed, see StreamedSet. The others are bound alone, or mapped.
struct BlockPlacement {
  BlockPlace place = BlockPlace::bound;
  size_t streamed = 0;

  bool operator==(const BlockPlacement&) const = default;
};

class Session {
 public:
  explicit Session(const EngineOptions& options, const Decorate& decorate = {});

  const EngineOptions& options() const { return options_; }
  const Model& model() const { return model_; }
  Machine& machine() { return machine_; }
  HeldType held() const { return held_; }
  std::vector<std::string> describe();
  // As of Engine.
  std::string half_kind() const;
  std::string lossy_weights() const;

  /// From here on work, binding of weights included, throws Cancelled soon after a stop request of `stop`.
  void watch(const std::stop_token& stop);

  /// Throws Error if a file of the weights changed since it was opened.
  void check_files() const;

  /// Each prompt's conditioning (kept rows, text width). Weights of the text encoder are held only while this runs,
  /// unless keep_text_encoder() says otherwise.
  /// A prompt is encoded alone, so that its numbers do not depend on what else was asked for. `layer_done` is called
  /// encoding_steps() times.
  std::vector<Tensor> encode(std::span<const PromptTokens> prompts, const std::function<void()>& layer_done);
  /// Layers to run through for these prompts; none for one that was encoded before.
  int64_t encoding_steps(std::span<const PromptTokens> prompts);
  /// Whether the next call of encode() leaves the text encoder bound, if it binds all of it. What is bound now is let
  /// go of if not.
  void keep_text_encoder(bool keeps);
  bool holds_text_encoder() const { return text_encoder_.has_value(); }
  /// Whether it was needed by an earlier call.
  bool has_encoded() const { return has_encoded_; }

  /// Where its blocks are; nothing if it is not bound.
  std::optional<BlockPlacement> transformer_placement() const;
  /// Binds the transformer for keep_transformer(). Where the device reads host memory, another thread may do so.
  TransformerWeights bind_transformer(const std::stop_token& stop);
  void keep_transformer(TransformerWeights weights);
  /// What the device made of the transformer's layers, if anything: it is made again when it is needed.
  void forget_forms();
  /// Both stay bound once they are, the transformer until it is wanted with its blocks elsewhere. Weights of the VAE
  /// that are no finite numbers are an Error.
  const TransformerWeights& transformer(const BlockPlacement& placement = {});
  /// Until the prompts are encoded next, or end_transformer(), the weights of layers are read from the disk as they
  /// are needed, instead of where they are mapped: all of the text encoder, of the transformer those for modulation()
  /// or, of its streamed blocks, those for block(), unless they are on the host.
  void stream_text_encoder(Caching caching) { streamed_text_encoder_ = caching; }
  void stream_modulation(Caching caching);
  void stream_blocks(Caching caching);
  /// Leaves no weights of the transformer in memory but copies.
  void end_transformer();
  int threads() const { return options_.threads > 0 ? options_.threads : usable_processors(); }
  const VaeWeights& vae();

 private:
  /// Embeddings of a prompt that this or, with a prompt cache, another session has encoded; else empty.
  Tensor find(const PromptTokens& tokens);
  void keep(const PromptTokens& tokens, const Tensor& embeddings);
  std::string rounding_of_text() const;
  std::string store_key(const PromptTokens& tokens);
  Tensor encode(const TextEncoderWeights& weights, const PromptTokens& tokens, const std::function<void()>& layer_done);
  void check_finite(const Tensor& embeddings);
  WeightLoader loader(const Checkpoint& files, WeightPlace& place, const std::stop_token& stop) {
    return {files, place, held_, stop};
  }
  void bind_text_encoder(TextEncoderWeights& weights, std::optional<Caching> streaming);
  TransformerWeights bind_on_host(const BlockPlacement& placement);

  EngineOptions options_;
  HeldType held_;
  Model model_;
  Machine machine_;
  std::stop_token stop_;
  PromptCache prompts_;
  PromptStore store_;
  std::string text_encoder_print_;  ///< see text_encoder_fingerprint(); empty until it is needed
  std::optional<Caching> streamed_text_encoder_;
  bool keeps_text_encoder_ = false, has_encoded_ = false;
  std::optional<TextEncoderWeights> text_encoder_;
  std::optional<TransformerWeights> transformer_;
  BlockPlacement placement_;
  std::optional<VaeWeights> vae_;
};

}  // namespace inkstone
