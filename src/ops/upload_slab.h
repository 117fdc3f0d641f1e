// Device memory that is filled from the host again and again, beside the device's work.
#pragma once
#include <memory>
#include <span>

#include "core/tensor.h"

namespace inkstone {

/// Tensors in a slab begin at multiples of this, as every kernel likes them best.
inline constexpr size_t kUploadUnit = 256;

/// Host bytes and where they go in a slab.
struct UploadPart {
  const std::byte* from = nullptr;
  size_t offset = 0;
  size_t bytes = 0;
};

/// One of a few slabs that take turns: work on what one holds runs while another is filled.
class UploadSlab {
 public:
  virtual ~UploadSlab() = default;

  virtual std::shared_ptr<Buffer> memory() const = 0;
  /// Queues copies behind all work that was queued before the last release(). Work that is queued from here on finds
  /// them done; `parts` must stay what they are until then.
  virtual void fill(std::span<const UploadPart> parts) = 0;
  /// All work on what the slab holds is queued.
  virtual void release() = 0;
  /// Waits until the host bytes of the last fill() are not needed any more.
  virtual void wait() = 0;
};

}  // namespace inkstone
