// LoRA files in every spelling, for tests.
#pragma once
#include <array>
#include <map>
#include <optional>
#include <string>

#include "core/tensor.h"
#include "io/lora.h"

namespace inkstone {

/// How a program names the tensors of layer P.
struct LoraSpelling {
  const char* label;
  const char* name;  ///< as Lora::spelling() tells it
  const char* prefix;
  const char* dot;  ///< what P has for it
  const char *down, *up;
};

inline constexpr std::array<LoraSpelling, 17> kLoraSpellings = {{
    {"diffusers", "diffusers", "transformer.", ".", ".lora_A.weight", ".lora_B.weight"},
    {"peft", "peft", "", ".", ".lora_A.weight", ".lora_B.weight"},
    {"peft_adapter", "peft", "", ".", ".lora_A.default.weight", ".lora_B.default.weight"},
    {"peft_saved", "peft", "base_model.model.", ".", ".lora_A.weight", ".lora_B.weight"},
    {"comfyui_a_b", "comfyui", "diffusion_model.", ".", ".lora_A.weight", ".lora_B.weight"},
    {"comfyui_down_up", "comfyui", "diffusion_model.", ".", ".lora_down.weight", ".lora_up.weight"},
    {"bare", "bare", "", ".", ".lora_down.weight", ".lora_up.weight"},
    {"kohya", "kohya", "lora_unet_", "_", ".lora_down.weight", ".lora_up.weight"},
    {"kohya_wide", "kohya", "lora_unet_", "__", ".lora_down.weight", ".lora_up.weight"},
    {"onetrainer", "onetrainer", "lora_transformer_", "_", ".lora_down.weight", ".lora_up.weight"},
    {"lycoris", "lycoris", "lycoris_", "_", ".lora_down.weight", ".lora_up.weight"},
    {"checkpoint", "comfyui", "model.diffusion_model.", ".", ".lora_down.weight", ".lora_up.weight"},
    {"diffsynth", "diffsynth", "pipe.dit.", ".", ".lora_A.default.weight", ".lora_B.default.weight"},
    {"two_prefixes", "peft", "base_model.model.transformer.", ".", ".lora_A.weight", ".lora_B.weight"},
    {"without_weight", "peft", "", ".", ".lora_A", ".lora_B"},
    {"older_diffusers", "diffusers", "transformer.", ".", ".lora.down.weight", ".lora.up.weight"},
    {"linear_layer", "diffusers", "transformer.", ".", ".lora_linear_layer.down.weight",
     ".lora_linear_layer.up.weight"},
}};

/// A layer's change as tests make it: factor * up down with factor alpha / rank, or 1.
struct LoraPair {
  Tensor down, up;
  std::optional<float> alpha;
};

inline std::string spelled(const LoraSpelling& spelling, const std::string& layer) {
  std::string stem = spelling.prefix;
  for (const char c : layer) stem += c == '.' ? spelling.dot : std::string(1, c);
  return stem;
}

inline void add_pair(std::map<std::string, Tensor>& tensors, const LoraSpelling& spelling, const std::string& layer,
                     const LoraPair& pair) {
  const std::string stem = spelled(spelling, layer);
  tensors[stem + spelling.down] = pair.down;
  tensors[stem + spelling.up] = pair.up;
  if (!pair.alpha) return;
  const Tensor alpha = host_tensor(Shape{}, DType::f32);
  *alpha.data<float>() = *pair.alpha;
  tensors[stem + ".alpha"] = alpha;
}

}  // namespace inkstone
