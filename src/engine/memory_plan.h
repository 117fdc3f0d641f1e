// Decides before the work what fits into memory.
#pragma once
#include "engine/job.h"
#include "io/weight_loader.h"
#include "model/vae.h"

namespace inkstone {

struct MemoryPlan {
  int64_t batch = 1;        ///< pictures that are drawn at once
  int64_t band_rows = 0;    ///< of latents that are decoded at a time; 0: all, since there is room
  size_t needed_bytes = 0;  ///< of the stage that needs most, mapped weights left out
};

/// What a process may use, and how it holds weights.
struct MemoryState {
  size_t available_bytes = 0;  ///< for this process in all
  HeldType held = std::nullopt;
  bool weights_copied = false;     ///< all of them, to a device with memory of its own; else only converted ones
  bool transformer_bound = false;  ///< by an earlier call
};

/// Throws Error that names the bytes needed and available if not even one picture at a time fits, and for any tensor of
/// the transformer or text encoder that is missing, misshapen or surplus.
MemoryPlan plan_memory(const Model& model, const VaeWeights& vae, const Job& job, const MemoryState& memory);

}  // namespace inkstone
