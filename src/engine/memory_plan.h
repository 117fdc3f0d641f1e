// Decides before the work what fits into memory.
#pragma once
#include <array>
#include <string>

#include "inkstone/inkstone.h"

#include "core/block_reader.h"
#include "engine/job.h"
#include "engine/session.h"
#include "io/weight_loader.h"
#include "model/vae.h"

namespace inkstone {

/// A plan and what it takes to keep to it.
struct MemoryPlan {
  Plan told;
  /// Most bytes of the device's pool while encoding, denoising and decoding.
  size_t encode_pool = 0, denoise_pool = 0, decode_pool = 0;
  Caching caching = Caching::cached;  ///< of streamed weights
  BlockPlacement blocks;
  size_t kept = 0;                   ///< of layers by the device, because there is room
  bool round_again = false;          ///< what it keeps by now is more than that
  bool keeps_text_encoder = false;   ///< on the device, for the next prompt
  std::vector<FilePart> read_ahead;  ///< in the order of their use; none if the system's cache has no room for all
};

/// What a process may use and holds already, and how it holds weights.
struct MemoryState {
  size_t available_bytes = 0;      ///< for this process in all
  size_t own_bytes = 0;            ///< held now, without what the device's pool holds and what it keeps of layers;
                                   ///< of a device with memory of its own, what it takes beside what is planned
  size_t mapped_bytes = 0;         ///< pages of files held now: the program itself
  size_t machine_bytes = 0;        ///< that the machine has left; the page cache may take them
  const Device* device = nullptr;  ///< that will run the job
  HeldType held = std::nullopt;
  bool halves_decoding = false;  ///< the VAE is to take at most half of the memory that it takes in f32
  bool rounds_text = false;      ///< the text encoder's layers are marked as tolerant
  bool weights_copied = false;   ///< all of them, to a device with memory of its own; else only converted ones
  int threads = 1;
  bool prompts_encoded = false;               ///< by an earlier call
  std::optional<BlockPlacement> transformer;  ///< if an earlier call bound it
  /// Earlier calls encoded prompts, so later ones will; and whether the device holds the text encoder since.
  bool encodes_again = false, holds_text_encoder = false;
};

/// Throws Error that names the bytes needed and available, and what would fit, if nothing does; and for any tensor of
/// the transformer or text encoder that is missing, misshapen or surplus.
MemoryPlan plan_memory(const Model& model, const VaeWeights& vae, const Job& job, const MemoryState& memory);

}  // namespace inkstone
