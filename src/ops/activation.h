// The functions that follow a linear layer or a norm.
#pragma once
#include <cstdint>

namespace inkstone {

enum class Activation : uint8_t { none, silu, gelu_tanh };

struct NormOptions {
  float eps = 0;
  Activation activation = Activation::none;
};

}  // namespace inkstone
