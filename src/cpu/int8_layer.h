// What the cpu device makes of a layer that it computes in 8 bits, once, when it first meets the layer.
#pragma once
#include <span>

#include "core/host_memory.h"
#include "cpu/int8_panel.h"
#include "ops/kept.h"

namespace inkstone {

/// A weight rounded as a whole.
struct Int8Packed {
  std::shared_ptr<Buffer> memory;
  std::vector<Int8Panel> panels;  ///< of all outputs, one for each panel_depth() inputs
};

/// A slab rounded with its side branches: they are small, but rounding them takes as long as multiplying with them.
struct Int8Slab {
  struct Branch {
    Int8Packed down, up;
  };
  Int8Packed weight;
  std::vector<Branch> branches;
};

struct Int8Layer final : DeviceForm {
  const Int8Ops* owner = nullptr;  ///< whose order the rounded weights have; nobody else can read them
  Int8Factors factors;
  bool in_place = false;         ///< its weights are read where they lie, and `packed` has their side branches only
  std::vector<Int8Slab> packed;  ///< none: they are rounded again in every product
};

/// Makes layers, and keeps their rounded weights while there is memory for it. Results do not depend on that.
class Int8Layers {
 public:
  /// `keep_bytes`: what rounded weights may take at most. The pool and the functions must outlive this.
  Int8Layers(ThreadPool& pool, const Int8Functions& functions, size_t keep_bytes)
      : pool_(pool),
        functions_(functions),
        memory_(keep_bytes, HostMemory::Backing::spread),
        keep_bytes_(keep_bytes),
        now_(keep_bytes),
        left_for_others_(keep_bytes) {}

  /// What another device, or one with other instructions, made of the layer is made anew.
  const Int8Layer& of(const Linear& layer);
  /// A weight of a layer that is read where it lies, as long as it lies there; not of 4 bits.
  Int8Packed view(const Weight& weight) const;

  size_t bytes() const { return memory_.current(); }
  /// From here on, by someone who knows what the rest of the program will take.
  void keep_at_most(size_t bytes);
  /// Of what would be made of these layers, one after the other, if none was made yet.
  Kept kept_of(std::span<const Linear* const> layers, const KeepRoom& room) const;

 private:
  std::vector<Int8Slab> pack(const Linear& layer, const Int8Factors& factors);
  Int8Packed pack(const Weight& weight, const Int8Factors* factors);
  bool in_place(const Linear& layer) const { return functions_.int8.reads_mixed && has_factors(layer); }
  size_t packed_bytes(const Linear& layer) const;
  size_t packed_bytes(const Weight& weight) const;

  ThreadPool& pool_;
  Int8Functions functions_;
  HostMemory memory_;
  size_t keep_bytes_;
  size_t now_;              // of those
  size_t left_for_others_;  // must stay available: as much again, for what the program has yet to allocate
};

}  // namespace inkstone
