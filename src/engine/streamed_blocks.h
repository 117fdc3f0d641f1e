// Blocks of a model that are read from its files while the block before is at work.
#pragma once
#include <memory>

#include "core/block_reader.h"
#include "core/mapped_file.h"
#include "model/block_source.h"
#include "model/text_encoder.h"
#include "model/transformer.h"

namespace inkstone {

/// What may be streamed of a model: each calls `visit(Linear&)` for some layers of a block.
inline constexpr auto kEncoderLayers = [](EncoderLayer& layer, const auto& visit) { for_each_linear(layer, visit); };
inline constexpr auto kBlockLayers = [](BlockWeights& block, const auto& visit) { for_each_block_layer(block, visit); };
inline constexpr auto kModulationLayers = [](BlockWeights& block, const auto& visit) {
  for_each_modulation_layer(block, visit);
};

/// Calls `visit(Tensor&)` for the tensors of those layers.
template <class Block, class ForEach>
void for_each_tensor_of(Block& block, const ForEach& for_each, const auto& visit) {
  for_each(block, [&](Linear& layer) { for_each_tensor(layer, visit); });
}

/// Which of a model's blocks are streamed: spread evenly, so that each one's copy has as many others' work beside it,
/// and as late as that allows, so that the first has some, too.
struct StreamedSet {
  size_t all = 0, streamed = 0;

  /// Of the blocks before `index`.
  size_t before(size_t index) const { return index * streamed / all; }
  bool contains(size_t index) const { return before(index + 1) > before(index); }
};

/// Every one of them.
template <class Block>
StreamedSet all_of(const std::vector<Block>& blocks) {
  return {blocks.size(), blocks.size()};
}

/// Where a mapped tensor lies in its file; tensors with memory of their own lie nowhere.
inline std::optional<FilePart> file_part(const Tensor& tensor) {
  const MappedFile* file = file_of(tensor);
  if (file == nullptr) return std::nullopt;
  return FilePart{file, tensor.offset(), tensor.bytes()};
}

/// The file parts of the layers of each block of a set.
template <class Block, class ForEach>
std::vector<FileBlock> file_blocks(const std::vector<Block>& blocks, const ForEach& for_each, const StreamedSet& set) {
  std::vector<FileBlock> parts;
  for (size_t i = 0; i < blocks.size(); ++i) {
    if (!set.contains(i)) continue;
    Block block = blocks[i];
    parts.emplace_back();
    for_each_tensor_of(block, for_each, [&](const Tensor& tensor) {
      if (const auto part = file_part(tensor)) parts.back().push_back(*part);
    });
  }
  return parts;
}

/// A slab while it holds one block: what devices keep about weights goes by their buffer, and the next block's are
/// others.
struct SlabUse final : Buffer {
  explicit SlabUse(std::shared_ptr<Buffer> memory) : Buffer(memory->data, memory->bytes), slab(std::move(memory)) {}
  std::shared_ptr<Buffer> slab;
};

/// The blocks as a model asks for them: those of a set with all mapped tensors of the layers in the reader's memory,
/// the others as they are.
template <class Block, class ForEach>
class StreamedBlocks {
 public:
  StreamedBlocks(const std::vector<Block>& blocks, const ForEach& for_each, const StreamedSet& set, Caching caching,
                 std::stop_token stop)
      : blocks_(blocks),
        for_each_(for_each),
        set_(set),
        reader_(file_blocks(blocks, for_each, set), caching, std::move(stop)) {}

  const Block& get(size_t index) {
    if (!set_.contains(index)) return blocks_[index];
    const std::vector<std::byte*> places = reader_.get(set_.before(index));
    const auto memory = std::make_shared<SlabUse>(reader_.memory());
    now_ = blocks_[index];
    size_t part = 0;
    for_each_tensor_of(now_, for_each_, [&](Tensor& tensor) {
      if (file_of(tensor) == nullptr) return;
      const auto offset = static_cast<size_t>(places[part++] - static_cast<std::byte*>(memory->data));
      tensor = Tensor(memory, offset, tensor.shape(), tensor.dtype());
    });
    return now_;
  }

 private:
  const std::vector<Block>& blocks_;
  ForEach for_each_;
  StreamedSet set_;
  BlockReader reader_;
  Block now_;
};

/// A source of blocks that stays valid as long as `blocks`; it throws Cancelled soon after a stop request of `stop`.
template <class Block, class ForEach>
WeightSource<Block> streamed(const std::vector<Block>& blocks, const ForEach& for_each, const StreamedSet& set,
                             Caching caching, std::stop_token stop) {
  const auto stream = std::make_shared<StreamedBlocks<Block, ForEach>>(blocks, for_each, set, caching, std::move(stop));
  return [stream](size_t index) -> const Block& { return stream->get(index); };
}

}  // namespace inkstone
