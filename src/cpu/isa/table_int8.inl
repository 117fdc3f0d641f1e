// The table of 8-bit products of one instruction set. INKSTONE_ISA names it; its vectors are included before.
#pragma once
#include "cpu/isa/int8.inl"
#include "cpu/isa/int8_tables.h"

namespace inkstone::INKSTONE_ISA {

const Int8Ops kInt8Ops = {
    .name = kInt8Name,
    .lanes = kLanes,
    .tile_rows = kInt8Rows,
    .panel_vectors = kInt8Vectors,
    .most_depth = kMostDepth,
    .code_bytes = sizeof(Code),
    .strip_bytes = sizeof(Strip),
    .strip_stride = Strip::kStride,
    .depth_unit = kStep,
    .reads_mixed = kReadsMixed,
    .reads_codes = sizeof(RowCode) == sizeof(int8_t),
    .quantize = quantize,
    .quantize_pixels = quantize_pixels,
    .prepare_rows = prepare_rows,
    .mixer = mixer,
    .pack_lanes = pack_lanes,
    .unpack = unpacker<SmallBytes>(),
    .multiply_tile = multiply_tile,
    .multiply_add_chains = multiply_add_chains,
    .multiply_adds_per_round = kChains * kLanes * kStep,
};

}  // namespace inkstone::INKSTONE_ISA
