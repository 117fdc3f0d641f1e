#include "io/scheme.h"

namespace inkstone {
namespace {

// Prefixes around a text encoder's names, the outer ones first: all-in-one files, then transformers since 4.52.
constexpr std::array<std::pair<std::string_view, std::string_view>, 4> kTextPrefixes = {{
    {"text_encoders.qwen25_7b.transformer.", ""},
    {"text_encoders.llm.", ""},
    {"model.language_model.", "model."},
    {"model.visual.", "visual."},
}};

std::string text_encoder_name(std::string_view stored) {
  std::string name(stored);
  for (const auto& [prefix, canonical] : kTextPrefixes)
    if (name.starts_with(prefix)) name = std::string(canonical) + name.substr(prefix.size());
  return name.ends_with(".rotary_emb.inv_freq") ? "" : name;
}

Renaming renaming(Component component, const TensorMap&) {
  if (component == Component::text_encoder) return text_encoder_name;
  return [](std::string_view stored) { return std::string(stored); };
}

}  // namespace

const Scheme& diffusers_scheme() {
  static constexpr Scheme scheme = {
      .name = "diffusers",
      .recognises = [](Component, const TensorMap&) { return true; },  // missing tensors are named later
      .renaming = renaming,
  };
  return scheme;
}

}  // namespace inkstone
