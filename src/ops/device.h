// A place where tensors live and kernels run.
#pragma once
#include <memory>
#include <optional>
#include <stop_token>
#include <string>

#include "ops/kept.h"
#include "ops/kernels.h"
#include "ops/recording.h"
#include "ops/upload_slab.h"

namespace inkstone {

/// Where a model's weights go when they are bound.
class WeightPlace {
 public:
  virtual ~WeightPlace() = default;

  /// A host tensor as the device reads it; the same tensor where the device reads host memory.
  virtual Tensor upload(const Tensor& host) = 0;

  /// The same for a weight, whose bytes must stay as they are until finish_uploads(): a device may copy many at once.
  virtual Tensor upload_weight(const Tensor& host) { return upload(host); }
  /// The same for all tensors of a layer. A device may lay them out as it reads them best.
  virtual void upload_weights(Linear& layer) {
    for_each_tensor(layer, [this](Tensor& tensor) { tensor = upload_weight(tensor); });
  }
  /// No host bytes are read any more. Throws Error if a copy has failed.
  virtual void finish_uploads() {}

  /// Given every layer that tolerates rounding, its weights uploaded. A device that was asked for lossy arithmetic may
  /// replace them by what it rounds them to.
  virtual void round_weights(Linear&) {}
};

/// What a device's memory pool has handed out. Mapped weight files are not counted.
struct MemoryUse {
  size_t current = 0;
  size_t peak = 0;
  size_t blocks_taken = 0;  ///< from the system, ever; where that is counted
  size_t blocks_given_back = 0;
};

/// Bytes of a device with memory of its own.
struct OwnMemory {
  size_t bytes = 0;      ///< that may be taken in all, weights included
  size_t unplanned = 0;  ///< of them what is taken beside tensors and what ops name
};

class Device : public WeightPlace {
 public:
  virtual std::string name() const = 0;      ///< "cpu", "reference", ...
  virtual std::string describe() const = 0;  ///< for --verbose: instruction set, threads, libraries
  virtual DType activation_type() const = 0;
  /// Ops take activations of this type too. A kernel may give such a result instead, in the memory of the whole one.
  virtual DType narrow_type() const { return activation_type(); }

  virtual Kernels& kernels() = 0;

  /// Memory for a tensor, from a pool. Throws Error that names bytes wanted and available when there is too little.
  virtual std::shared_ptr<Buffer> allocate(size_t bytes) = 0;
  virtual MemoryUse memory() const = 0;
  /// Bytes beside a plan's tensors: what a linear step, a convolution or attention takes while it runs, and what stays
  /// of layers once they were used. Of tensors read only shape and type count; I8: what made them wrote what the layer
  /// wants.
  virtual size_t step_bytes(std::span<const LinearPart>) const { return 0; }
  virtual size_t conv_bytes(const Tensor& /*x*/, const Conv2d&) const { return 0; }
  virtual size_t attention_bytes(const Qkv& /*tolerant*/) const { return 0; }
  virtual Kept kept_of(std::span<const Linear* const>, const KeepRoom&) const { return {}; }
  /// Of what is kept of layers only because there was room: what it takes now, and what it may take from here on.
  virtual size_t kept_bytes() const { return 0; }
  virtual void keep_at_most(size_t /*bytes*/) {}
  /// Nothing where the device reads host memory.
  virtual std::optional<OwnMemory> own_memory() const { return std::nullopt; }
  virtual void reset_peak() = 0;
  /// What that pool takes for a tensor of so many bytes.
  virtual size_t pool_bytes(size_t bytes) const { return bytes; }

  /// Bytes of a layer's weights once round_weights() has replaced them; nothing if it would not.
  virtual std::optional<size_t> rounded_bytes(const Linear&) const { return std::nullopt; }

  /// Has round_weights() take side branches into matrices that must become dense numbers for that, and what bytes a
  /// layer has then; nothing if it would stay as it is. Faster, for more memory.
  virtual void widen(bool /*widens*/) {}
  virtual std::optional<size_t> widened_bytes(const Linear&) const { return std::nullopt; }

  /// The same host memory, from which slabs are filled at the link's full speed; it cannot be swapped out then. Where
  /// the system refuses that, it stays as it is, with a note.
  virtual std::shared_ptr<Buffer> pinned(std::shared_ptr<Buffer> host) { return host; }
  /// Host memory that weights go through when they are uploaded.
  virtual size_t upload_memory() const { return 0; }
  /// Memory to fill beside the work; nothing where the device reads host memory.
  virtual std::unique_ptr<UploadSlab> upload_slab(size_t /*bytes*/) { return nullptr; }

  /// Work that was done once before on inputs of the same shapes, to be replayed; nothing where that is not possible or
  /// there is too little memory for it. Tensors that it uses beside its inputs must stay where they are.
  virtual std::unique_ptr<Recording> record(std::span<const Tensor> /*inputs*/, const RecordedWork&) { return nullptr; }

  /// Waits for all work, then gives a host tensor. No other call of a model waits for results, though a device may wait
  /// for room: for memory that a copy still reads, or before it queues more work than a stop request shall wait for.
  virtual Tensor download(const Tensor& tensor) = 0;

  /// A step's work is queued. Waits until that of the step before is done: behind more a stop request would not be
  /// heard soon, and who tells of progress would be far ahead of the work.
  virtual void end_step() {}

  /// From here on kernels throw Cancelled soon after a stop request of `stop`, where single ones may take long. What
  /// such a kernel has written is void.
  virtual void watch(std::stop_token) {}

  /// What the user should know of the work since the last call: where a slower way was taken, and why.
  virtual std::vector<std::string> take_notes() { return {}; }

  /// Waits for all work: for those who measure time.
  virtual void wait() {}
};

}  // namespace inkstone
