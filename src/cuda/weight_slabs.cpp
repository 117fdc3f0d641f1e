#include "cuda/weight_slabs.h"

#include "core/rounding.h"
#include "ops/upload_slab.h"

namespace inkstone {
namespace {

constexpr size_t kSlab = size_t{64} << 20;
constexpr size_t kLargest = kSlab / 4;  // larger ones leave ends where nothing fits, and waste little by themselves

}  // namespace

Tensor WeightSlabs::empty(const Shape& shape, DType type) {
  const auto bytes = static_cast<size_t>(shape.count()) * size_of(type);
  const size_t room = round_up(bytes, kUploadUnit);
  if (context_.memory().block_size(bytes) <= room + kUploadUnit || room > kLargest) return context_.empty(shape, type);
  std::erase_if(slabs_, [](const Slab& slab) { return slab.memory.expired(); });
  for (Slab& slab : slabs_)
    if (std::shared_ptr<Buffer> memory = slab.memory.lock(); slab.used + room <= memory->bytes)
      return {std::move(memory), std::exchange(slab.used, slab.used + room), shape, type};
  const std::shared_ptr<Buffer> memory = context_.memory().allocate(kSlab);
  slabs_.push_back({memory, room});
  return {memory, 0, shape, type};
}

}  // namespace inkstone
