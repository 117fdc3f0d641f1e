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
  bool flat;  ///< P has _ for .
  const char *down, *up;
};

inline constexpr std::array<LoraSpelling, 8> kLoraSpellings = {{
    {"diffusers", "diffusers", "transformer.", false, ".lora_A.weight", ".lora_B.weight"},
    {"peft", "peft", "", false, ".lora_A.weight", ".lora_B.weight"},
    {"peft_adapter", "peft", "", false, ".lora_A.default.weight", ".lora_B.default.weight"},
    {"peft_saved", "peft", "base_model.model.", false, ".lora_A.weight", ".lora_B.weight"},
    {"comfyui_a_b", "comfyui", "diffusion_model.", false, ".lora_A.weight", ".lora_B.weight"},
    {"comfyui_down_up", "comfyui", "diffusion_model.", false, ".lora_down.weight", ".lora_up.weight"},
    {"bare", "bare", "", false, ".lora_down.weight", ".lora_up.weight"},
    {"kohya", "kohya", "lora_unet_", true, ".lora_down.weight", ".lora_up.weight"},
}};

/// A layer's change as tests make it: factor * up down with factor alpha / rank, or 1.
struct LoraPair {
  Tensor down, up;
  std::optional<float> alpha;
};

inline void add_pair(std::map<std::string, Tensor>& tensors, const LoraSpelling& spelling, const std::string& layer,
                     const LoraPair& pair) {
  const std::string stem = spelling.prefix + (spelling.flat ? flattened(layer) : layer);
  tensors[stem + spelling.down] = pair.down;
  tensors[stem + spelling.up] = pair.up;
  if (!pair.alpha) return;
  const Tensor alpha = host_tensor(Shape{}, DType::f32);
  *alpha.data<float>() = *pair.alpha;
  tensors[stem + ".alpha"] = alpha;
}

}  // namespace inkstone
