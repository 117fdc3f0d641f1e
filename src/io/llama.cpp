// llama.cpp's names of a text encoder's tensors (gguf-py/gguf/tensor_mapping.py there).
#include <algorithm>

#include "io/scheme.h"

namespace inkstone {
namespace {

using Replacement = std::pair<std::string_view, std::string_view>;

constexpr std::string_view kBlock = "blk.";

// At the front of a name.
constexpr std::array<Replacement, 4> kTop = {{
    {kBlock, "model.layers."},
    {"token_embd.", "model.embed_tokens."},
    {"output_norm.", "model.norm."},
    {"output.", "lm_head."},
}};

// In a block.
constexpr std::array<Replacement, 9> kLayers = {{
    {".attn_norm.", ".input_layernorm."},
    {".ffn_norm.", ".post_attention_layernorm."},
    {".attn_q.", ".self_attn.q_proj."},
    {".attn_k.", ".self_attn.k_proj."},
    {".attn_v.", ".self_attn.v_proj."},
    {".attn_output.", ".self_attn.o_proj."},
    {".ffn_gate.", ".mlp.gate_proj."},
    {".ffn_up.", ".mlp.up_proj."},
    {".ffn_down.", ".mlp.down_proj."},
}};

std::string canonical_name(std::string_view stored) {
  if (stored == "rope_freqs.weight") return "";
  std::string name(stored);
  for (const auto& [from, to] : kTop)
    if (stored.starts_with(from)) name.replace(0, from.size(), to);
  if (!stored.starts_with(kBlock)) return name;
  for (const auto& [from, to] : kLayers) name = with_replaced(std::move(name), from, to);
  return name;
}

bool recognises(Component component, const TensorMap& stored) {
  return component == Component::text_encoder && std::ranges::any_of(stored, [](const auto& item) {
           return item.first.starts_with(kBlock) || item.first.starts_with("token_embd.");
         });
}

}  // namespace

const Scheme& llama_scheme() {
  static constexpr Scheme scheme = {.name = "llama.cpp",
                                    .recognises = recognises,
                                    .renaming = [](Component, const TensorMap&) { return Renaming(canonical_name); }};
  return scheme;
}

}  // namespace inkstone
