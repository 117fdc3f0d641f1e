// The algorithms, and the table of one instruction set. INKSTONE_ISA names it; its vectors are included before.
#pragma once
#include "cpu/isa/attention.inl"
#include "cpu/isa/expand.inl"
#include "cpu/isa/norms.inl"
#include "cpu/isa/peak.inl"
#include "cpu/isa/product.inl"
#include "cpu/isa/rows.inl"
#include "cpu/isa/tables.h"

namespace inkstone::INKSTONE_ISA {

const VectorOps kVectorOps = {
    .isa = kIsa,
    .exp = exp_row,
    .epilogue = epilogue,
    .swiglu = swiglu,
    .add_scaled = add_scaled,
    .scale_shift = scale_shift,
    .add_shares = add_shares,
    .expander = expander,
    .to_bytes = to_bytes,
    .guided_step = guided_step,
    .rms_norm = rms_norm,
    .layer_norm_modulate = layer_norm_modulate,
    .rope_neighbours = rope_neighbours,
    .rope_halves = rope_halves,
    .lanes = kLanes,
    .tile_rows = kTileRows,
    .panel_vectors = kPanelVectors,
    .attend = attend,
    .pack_lanes = pack_lanes,
    .panel = {.inputs = 1, .multiply_tile = multiply_tile},
    .multiply_add_chains = multiply_add_chains,
    .multiply_adds_per_round = kMultiplyAddsPerRound,
};

}  // namespace inkstone::INKSTONE_ISA
