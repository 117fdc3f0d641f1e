// Tables of rotary position embeddings, made on the host once per run.
#pragma once
#include <array>
#include <cstdint>

#include "model/latents.h"
#include "ops/sequences.h"

namespace inkstone {

/// cos and sin f32 (n, head_width / 2, 2) of the text encoder: sequence positions count from 0.
Tensor text_encoder_rope(const Sequences& sequences, int64_t head_width, double theta);

/// Of the transformer's image tokens, `count` pictures of one grid: axes (frame, row, column), rows and columns counted
/// from the middle; the extra one of an odd grid is negative (QwenEmbedRope of diffusers).
Tensor image_rope(const Grid& grid, int64_t count, const std::array<int64_t, 3>& axes);

/// Of the transformer's text tokens: the same position on every axis, counted on from the picture's larger half.
Tensor text_rope(const Sequences& sequences, const Grid& grid, const std::array<int64_t, 3>& axes);

}  // namespace inkstone
