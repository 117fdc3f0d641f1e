// Blocks of a model that come from host memory, or through it from files, to a device with memory of its own while it
// computes the block before.
#pragma once
#include <array>
#include <optional>

#include "core/rounding.h"
#include "core/thread_pool.h"
#include "engine/streamed_blocks.h"
#include "ops/device.h"

namespace inkstone {

/// Where tensors come to lie in a slab, one behind the other, and what is to be copied there: at once what lies in one
/// buffer as it shall.
class SlabLayout {
 public:
  /// The offset of the next tensor, whose bytes lie at `from`; `buffer`: in which others may be its neighbours.
  size_t add(const Tensor& tensor, const std::byte* from, const Buffer* buffer);
  size_t add(const Tensor& tensor) { return add(tensor, tensor.data<const std::byte>(), tensor.buffer().get()); }
  const std::vector<UploadPart>& parts() const { return parts_; }
  size_t bytes() const { return end_; }

 private:
  std::vector<UploadPart> parts_;
  const Buffer* last_buffer_ = nullptr;
  size_t end_ = 0;
};

/// Of the tensors of a block's layers.
template <class Block, class ForEach>
SlabLayout layout_of(Block block, const ForEach& for_each) {
  SlabLayout layout;
  for_each_tensor_of(block, for_each, [&](const Tensor& tensor) { layout.add(tensor); });
  return layout;
}

/// Bytes of a slab that holds any of the blocks of a set.
template <class Block, class ForEach>
size_t upload_bytes(const std::vector<Block>& blocks, const ForEach& for_each, const StreamedSet& set) {
  size_t most = 0;
  for (size_t i = 0; i < blocks.size(); ++i)
    if (set.contains(i)) most = std::max(most, layout_of(blocks[i], for_each).bytes());
  return most;
}

/// A reader of those of the tensors that are mapped, into memory that a device copies from.
std::unique_ptr<BlockReader> upload_reader(std::vector<FileBlock> blocks, Caching caching, Device& device,
                                           std::stop_token stop);

/// The blocks as a model asks for them: those of a set with all tensors of the layers in one of two slabs on the
/// device, the others as they are, on the device by then.
template <class Block, class ForEach>
class UploadedBlocks {
 public:
  UploadedBlocks(const std::vector<Block>& blocks, const ForEach& for_each, const StreamedSet& set, Device& device,
                 std::optional<Caching> from_files, const std::stop_token& stop)
      : blocks_(blocks), for_each_(for_each), set_(set), stop_(stop) {
    if (from_files) reader_ = upload_reader(file_blocks(blocks, for_each, set), *from_files, device, stop);
    for (auto& slab : slabs_) slab = device.upload_slab(upload_bytes(blocks, for_each, set));
  }

  const Block& get(size_t index) {
    if (stop_.stop_requested()) throw Cancelled();
    if (now_) slabs_[current_]->release();
    now_.reset();  // what the device made of its layers is not needed any more
    if (!set_.contains(index)) return blocks_[index];
    std::vector<std::byte*> read;
    if (reader_) {
      slabs_[current_]->wait();  // the reader goes on with the memory that it was filled from
      read = reader_->get(set_.before(index));
    }
    current_ = 1 - current_;
    UploadSlab& slab = *slabs_[current_];
    slab.wait();  // else the host would be far ahead of the device, and a stop request not heard soon
    SlabLayout layout;
    now_ = placed(blocks_[index], read, slab.memory(), layout);
    slab.fill(layout.parts());
    return *now_;
  }

 private:
  Block placed(Block block, const std::vector<std::byte*>& read, const std::shared_ptr<Buffer>& memory,
               SlabLayout& layout) const {
    auto next = read.begin();
    for_each_(block, [&](Linear& layer) {
      if (layer.tolerance) layer.tolerance = std::make_shared<Tolerance>();  // a form would lie in the slab, or be kept
      for_each_tensor(layer, [&](Tensor& tensor) {
        const bool was_read = reader_ != nullptr && file_of(tensor) != nullptr;
        const size_t offset = was_read ? layout.add(tensor, *next++, nullptr) : layout.add(tensor);
        tensor = Tensor(memory, offset, tensor.shape(), tensor.dtype());
      });
    });
    return block;
  }

  const std::vector<Block>& blocks_;
  ForEach for_each_;
  StreamedSet set_;
  std::stop_token stop_;
  std::unique_ptr<BlockReader> reader_;  // outlives the slabs that are filled from it
  std::array<std::unique_ptr<UploadSlab>, 2> slabs_;
  size_t current_ = 0;
  std::optional<Block> now_;  // what the current slab holds, unless work on it is queued
};

/// A source of blocks on `device`. Those of the set have their layers' tensors in host memory, read from their files
/// where `from_files` says how. It stays valid as long as `blocks` and throws Cancelled soon after a stop request of
/// `stop`.
template <class Block, class ForEach>
WeightSource<Block> uploaded(const std::vector<Block>& blocks, const ForEach& for_each, const StreamedSet& set,
                             Device& device, std::optional<Caching> from_files, const std::stop_token& stop) {
  const auto stream = std::make_shared<UploadedBlocks<Block, ForEach>>(blocks, for_each, set, device, from_files, stop);
  return [stream](size_t index) -> const Block& { return stream->get(index); };
}

/// Copies what a layout says to a slab in host memory that the device copies from fastest.
std::shared_ptr<Buffer> pinned_copy(const SlabLayout& layout, Device& device, ThreadPool& threads);

/// Moves the tensors of a block's layers to such memory.
template <class Block, class ForEach>
void pin(Block& block, const ForEach& for_each, Device& device, ThreadPool& threads) {
  const std::shared_ptr<Buffer> memory = pinned_copy(layout_of(block, for_each), device, threads);
  SlabLayout layout;
  for_each_tensor_of(block, for_each, [&](Tensor& tensor) {
    tensor = Tensor(memory, layout.add(tensor), tensor.shape(), tensor.dtype());
  });
}

/// Leaves weights in host memory. Where rounding makes a layer smaller, the device rounds it first.
class HostWeights final : public WeightPlace {
 public:
  enum class Rounding : uint8_t { none, if_smaller };

  HostWeights(Device& device, Rounding rounding) : device_(device), rounding_(rounding) {}

  /// What a layer takes then, in host memory and in a slab.
  static size_t most_bytes(const Device& device, const Linear& layer);

  Tensor upload(const Tensor& host) override { return host; }
  void round_weights(Linear& layer) override;

 private:
  Device& device_;
  Rounding rounding_;
};

}  // namespace inkstone
