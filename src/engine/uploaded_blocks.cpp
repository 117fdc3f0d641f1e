#include "engine/uploaded_blocks.h"

#include <algorithm>
#include <cstring>

#include "core/host_memory.h"

namespace inkstone {
namespace {

constexpr int kReaders = 16;                // one copies some 3 GB/s out of the system's cache, a link takes up to 55
constexpr size_t kChunk = size_t{1} << 20;  // of a block of some 100 MB there is one for each of them, many times
constexpr size_t kTensors = 4;              // of a matrix at most: numbers, scales, offsets, bias
constexpr size_t kPiece = size_t{8} << 20;  // that one thread copies at a time

size_t bytes_of(Linear layer) {
  size_t bytes = 0;
  for_each_tensor(layer, [&](const Tensor& tensor) { bytes += tensor.bytes(); });
  return bytes;
}

/// Whether the device rounds a layer and it takes less memory then.
bool shrinks(const Device& device, const Linear& layer) {
  const std::optional<size_t> rounded = device.rounded_bytes(layer);
  return rounded && *rounded < bytes_of(layer);
}

}  // namespace

size_t SlabLayout::add(const Tensor& tensor, const std::byte* from, const Buffer* buffer) {
  const size_t offset = round_up(end_, kUploadUnit);
  end_ = offset + tensor.bytes();
  const bool neighbours = buffer != nullptr && buffer == last_buffer_;
  if (neighbours && parts_.back().from + (offset - parts_.back().offset) == from) {
    parts_.back().bytes = end_ - parts_.back().offset;
  } else {
    parts_.push_back({from, offset, tensor.bytes()});
  }
  last_buffer_ = buffer;
  return offset;
}

std::unique_ptr<BlockReader> upload_reader(std::vector<FileBlock> blocks, Caching caching, Device& device,
                                           std::stop_token stop) {
  ReaderOptions how = {.threads = std::min(usable_processors(), kReaders),
                       .prepare = [&device](auto memory) { return device.pinned(std::move(memory)); }};
  if (caching == Caching::cached) how.chunk = kChunk;
  return std::make_unique<BlockReader>(std::move(blocks), caching, std::move(stop), how);
}

std::shared_ptr<Buffer> pinned_copy(const SlabLayout& layout, Device& device, ThreadPool& threads) {
  std::vector<UploadPart> pieces;
  for (const UploadPart& part : layout.parts())
    for (size_t begin = 0; begin < part.bytes; begin += kPiece)
      pieces.push_back({part.from + begin, part.offset + begin, std::min(kPiece, part.bytes - begin)});
  std::shared_ptr<Buffer> memory = HostMemory().allocate(layout.bytes());
  threads.run(static_cast<int64_t>(pieces.size()), [&](int64_t index, int) {
    const UploadPart& piece = pieces[static_cast<size_t>(index)];
    std::memcpy(static_cast<std::byte*>(memory->data) + piece.offset, piece.from, piece.bytes);
  });
  return device.pinned(std::move(memory));
}

size_t HostWeights::most_bytes(const Device& device, const Linear& layer) {
  size_t tensors = 0;
  for (const Slab& slab : layer.slabs) tensors += kTensors * (1 + 2 * slab.branches.size());
  const size_t biases = static_cast<size_t>(layer.out()) * sizeof(float);
  const size_t bytes = shrinks(device, layer) ? *device.rounded_bytes(layer) + biases : bytes_of(layer);
  return bytes + tensors * kUploadUnit;
}

void HostWeights::round_weights(Linear& layer) {
  if (rounding_ == Rounding::none || !shrinks(device_, layer)) return;
  Linear on_device = layer;
  on_device.tolerance = std::make_shared<Tolerance>();
  device_.upload_weights(on_device);
  device_.round_weights(on_device);
  for_each_tensor(on_device, [&](Tensor& tensor) { tensor = device_.download(tensor); });
  layer.slabs = std::move(on_device.slabs);
}

}  // namespace inkstone
