// Blocks that come to a device with memory of its own while it works: what each holds when it is used, and when its
// memory may be written again. The device here copies as late as it may.
#include "engine/uploaded_blocks.h"

#include <cstring>
#include <gmock/gmock.h>
#include <set>

#include "engine/plan_on_device.h"
#include "engine/tiny_model.h"
#include "io/host_device.h"

namespace inkstone {
namespace {

/// Copies when its contents are asked for, or when its source may go.
class LateSlab final : public UploadSlab {
 public:
  explicit LateSlab(size_t bytes) : memory_(host_tensor({static_cast<int64_t>(bytes)}, DType::u8).buffer()) {}

  std::shared_ptr<Buffer> memory() const override { return memory_; }
  void fill(std::span<const UploadPart> parts) override {
    EXPECT_FALSE(in_use_) << "filled while its block is at work";
    EXPECT_TRUE(parts_.empty()) << "filled before anybody waited for the last copy";
    parts_.assign(parts.begin(), parts.end());
    in_use_ = true;
    ++fills;
    most_parts = std::max(most_parts, parts.size());
  }
  void release() override { in_use_ = false; }
  void wait() override {
    for (const UploadPart& part : parts_)
      std::memcpy(static_cast<std::byte*>(memory_->data) + part.offset, part.from, part.bytes);
    parts_.clear();
  }

  int fills = 0;
  size_t most_parts = 0;

 private:
  std::shared_ptr<Buffer> memory_;
  std::vector<UploadPart> parts_;
  bool in_use_ = false;
};

/// A device that holds no more than it must.
class OwnMemoryDevice : public HostDevice {
 public:
  std::optional<OwnMemory> own_memory() const override { return OwnMemory{.bytes = size_t{1} << 30}; }
  std::shared_ptr<Buffer> pinned(std::shared_ptr<Buffer> host) override {
    pinned_bytes += host->bytes;
    return host;
  }
  size_t upload_memory() const override { return copies_through; }
  std::unique_ptr<UploadSlab> upload_slab(size_t bytes) override {
    auto slab = std::make_unique<LateSlab>(bytes);
    slabs.push_back(slab.get());
    return slab;
  }
  void finish_copies() const {
    for (LateSlab* slab : slabs) slab->wait();
  }

  std::vector<LateSlab*> slabs;
  size_t pinned_bytes = 0;
  size_t copies_through = 0;
};

/// The transformer of models/tiny, on the host.
struct TinyTransformer {
  explicit TinyTransformer(WeightPlace& place) {
    WeightLoader loader(model.transformer_files, place);
    weights = load_transformer(model.transformer, loader);
  }
  Model model = open_model({.model = kTiny});
  TransformerWeights weights;
};

class UploadedBlocksTest : public ::testing::Test {
 protected:
  /// The numbers of a block's layers, one tensor after the other.
  static std::vector<std::string> contents(BlockWeights block) {
    std::vector<std::string> all;
    for_each_tensor_of(block, kBlockLayers,
                       [&](const Tensor& tensor) { all.emplace_back(tensor.data<const char>(), tensor.bytes()); });
    return all;
  }

  /// Every block holds what it held, whoever had its memory before; those that are not streamed stay where they are.
  void expect_all(const std::vector<BlockWeights>& blocks, size_t streamed, std::optional<Caching> from_files,
                  size_t copies) {
    constexpr int kSteps = 2;
    std::vector<std::vector<std::string>> expected;
    for (const BlockWeights& block : blocks) expected.push_back(contents(block));
    const StreamedSet set = {blocks.size(), streamed};
    const auto source = uploaded(blocks, kBlockLayers, set, device_, from_files, {});
    for (int step = 0; step < kSteps; ++step)
      for (size_t i = 0; i < blocks.size(); ++i) {
        const BlockWeights& got = source(i);
        device_.finish_copies();
        EXPECT_EQ(contents(got), expected[i]) << i;
        EXPECT_EQ(&got == &blocks[i], !set.contains(i));
        if (set.contains(i)) expect_streamed(got, blocks[i]);
      }
    ASSERT_EQ(device_.slabs.size(), 2u);
    EXPECT_EQ(device_.slabs[0]->fills + device_.slabs[1]->fills, kSteps * static_cast<int>(streamed));
    EXPECT_LE(std::abs(device_.slabs[0]->fills - device_.slabs[1]->fills), 1);
    EXPECT_LE(device_.slabs[0]->most_parts, copies);
    device_.slabs.clear();
  }

  static void expect_streamed(const BlockWeights& got, const BlockWeights& block) {
    EXPECT_NE(got.img.qkv.tolerance, block.img.qkv.tolerance);
    EXPECT_NE(got.img.qkv.tolerance, nullptr);
    const Tensor& weights = got.txt.up.slabs[0].weight.data;
    const auto at = reinterpret_cast<uintptr_t>(weights.data<std::byte>());
    EXPECT_EQ((at - reinterpret_cast<uintptr_t>(weights.buffer()->data)) % kUploadUnit, 0u);
  }

  OwnMemoryDevice device_;
  HostWeights host_{device_, HostWeights::Rounding::none};
  TinyTransformer tiny_{host_};
};

TEST_F(UploadedBlocksTest, ComeFromTheirFilesThroughPinnedMemory) {
  const std::vector<BlockWeights>& blocks = tiny_.weights.blocks;
  for (const size_t streamed : {blocks.size(), size_t{3}, size_t{1}})
    expect_all(blocks, streamed, Caching::cached, contents(blocks[0]).size());
  EXPECT_GT(device_.pinned_bytes, 0u);
}

TEST_F(UploadedBlocksTest, ComeFromHostMemoryInOneCopy) {
  ThreadPool threads(2);
  std::vector<BlockWeights> pinned = tiny_.weights.blocks;
  for (BlockWeights& block : pinned) pin(block, kBlockLayers, device_, threads);
  for (size_t i = 0; i < pinned.size(); ++i) EXPECT_EQ(contents(pinned[i]), contents(tiny_.weights.blocks[i]));
  EXPECT_EQ(file_of(pinned[0].img.up.slabs[0].weight.data), nullptr);
  for (const size_t streamed : {pinned.size(), size_t{5}, size_t{2}}) expect_all(pinned, streamed, std::nullopt, 1);
}

TEST_F(UploadedBlocksTest, TheHostIsNoMoreThanTwoCopiesAhead) {
  const std::vector<BlockWeights>& blocks = tiny_.weights.blocks;
  for (const std::optional<Caching> from_files : {std::optional<Caching>(), std::optional(Caching::cached)}) {
    const auto source = uploaded(blocks, kBlockLayers, all_of(blocks), device_, from_files, {});
    for (size_t i = 0; i < 2 * blocks.size(); ++i) source(i % blocks.size());  // the slabs look for themselves
    EXPECT_EQ(device_.slabs[0]->fills + device_.slabs[1]->fills, static_cast<int>(2 * blocks.size()));
    device_.slabs.clear();
  }
}

TEST(StreamedSetTest, IsSpreadEvenlyAndAsLateAsThatAllows) {
  constexpr size_t kAll = 60;
  for (size_t streamed = 0; streamed <= kAll; ++streamed) {
    const StreamedSet set = {kAll, streamed};
    std::vector<size_t> gaps;
    size_t found = 0, gap = 0;
    for (size_t i = 0; i < kAll; ++i, ++gap) {
      EXPECT_EQ(set.before(i), found);
      if (!set.contains(i)) continue;
      ++found;
      gaps.push_back(std::exchange(gap, 0));
    }
    EXPECT_EQ(found, streamed);
    if (streamed == 0) continue;
    EXPECT_GE(gaps.front() + 1, kAll / streamed);
    EXPECT_TRUE(set.contains(kAll - 1));
    const auto [least, most] = std::ranges::minmax_element(gaps.begin() + 1, gaps.end());
    if (least != most) {
      EXPECT_LE(*most - *least, 1u) << streamed;
    }
  }
}

TEST_F(UploadedBlocksTest, AStopRequestEndsThem) {
  std::stop_source stop;
  const std::vector<BlockWeights>& blocks = tiny_.weights.blocks;
  const auto source = uploaded(blocks, kBlockLayers, all_of(blocks), device_, std::nullopt, stop.get_token());
  source(0);
  stop.request_stop();
  EXPECT_THROW(source(1), Cancelled);
}

/// Halves what it rounds.
class RoundingDevice final : public HostDevice {
 public:
  std::optional<size_t> rounded_bytes(const Linear& layer) const override {
    return static_cast<size_t>(layer.in() * layer.out());
  }
  Tensor upload(const Tensor& host) override {
    ++uploads;
    return host;
  }
  void round_weights(Linear& layer) override { layer.slabs[0].name = "rounded"; }
  int uploads = 0;
};

TEST(HostWeightsTest, AreRoundedWhereThatMakesThemSmaller) {
  RoundingDevice device;
  HostWeights some(device, HostWeights::Rounding::if_smaller), none(device, HostWeights::Rounding::none);
  for (const DType type : {DType::bf16, DType::f8_e4m3})
    for (HostWeights* place : {&some, &none}) {
      Linear layer = {.slabs = {{dense_weight(host_tensor({4, 8}, type)), {}}}};
      device.uploads = 0;
      place->round_weights(layer);
      const bool rounds = place == &some && type == DType::bf16;
      EXPECT_EQ(layer.slabs[0].name, rounds ? "rounded" : "");
      EXPECT_EQ(device.uploads, rounds ? 1 : 0);
    }
}

/// Takes LoRAs in if it may.
class WideningDevice final : public OwnMemoryDevice {
 public:
  std::optional<size_t> widened_bytes(const Linear& layer) const override {
    const Slab& slab = layer.slabs[0];
    return slab.branches.empty() ? std::nullopt : std::optional(4 * bytes_of(slab.weight));
  }
};

class UploadPlanTest : public PlanOnDevice<OwnMemoryDevice> {
 protected:
  /// With less and less memory of the device, until the plan is as wanted.
  MemoryPlan first_plan(size_t machine, bool Plan::*wanted) {
    constexpr size_t kStep = size_t{1} << 20;
    for (size_t available = plan(kAmple, machine).told.needed_bytes;; available -= kStep) {
      const MemoryPlan made = plan(available, machine);
      EXPECT_LE(made.told.needed_bytes, available);
      if (made.told.*wanted) return made;
    }
  }

  static constexpr size_t kAmple = size_t{4} << 30;
};

TEST_F(UploadPlanTest, WithAmpleMemoryAllIsOnTheDevice) {
  const MemoryPlan made = plan(kAmple, kAmple);
  EXPECT_EQ(made.blocks, BlockPlacement());
  EXPECT_FALSE(made.told.transformer_streamed || made.told.transformer_on_host || made.told.text_encoder_streamed);
}

TEST_F(UploadPlanTest, WithLessTheModulationAloneIsReadOnceARun) {
  const MemoryPlan made = first_plan(kAmple, &Plan::modulation_streamed);
  EXPECT_EQ(made.blocks.place, BlockPlace::bound_alone);
  EXPECT_FALSE(made.told.transformer_streamed);
  EXPECT_LT(made.told.stages[1].own_bytes, plan(kAmple, kAmple).told.stages[1].own_bytes);
}

TEST_F(UploadPlanTest, WithLessYetBlocksComeFromHostMemory) {
  const MemoryPlan made = first_plan(kAmple, &Plan::transformer_streamed);
  EXPECT_EQ(made.blocks.place, BlockPlace::on_host);
  EXPECT_TRUE(made.told.transformer_on_host);
  EXPECT_EQ(made.caching, Caching::cached);
}

TEST_F(UploadPlanTest, AsManyBlocksStayOnTheDeviceAsThereIsRoomFor) {
  constexpr size_t kStep = size_t{1} << 18;
  WeightLoader loader(model_.transformer_files, device_);
  const TransformerWeights weights = load_transformer(model_.transformer, loader);
  const size_t block = upload_bytes(weights.blocks, kBlockLayers, all_of(weights.blocks));
  MemoryPlan made = first_plan(kAmple, &Plan::transformer_streamed);
  EXPECT_EQ(made.told.blocks, static_cast<int64_t>(weights.blocks.size()));
  EXPECT_LT(made.told.blocks_streamed, made.told.blocks);
  std::set<size_t> counts;
  for (size_t available = made.told.available_bytes; made.blocks.streamed < weights.blocks.size(); available -= kStep) {
    const size_t streamed = made.blocks.streamed;
    made = plan(available, kAmple);
    counts.insert(made.blocks.streamed);
    EXPECT_GE(made.blocks.streamed, streamed);
    EXPECT_EQ(made.told.blocks_streamed, static_cast<int64_t>(made.blocks.streamed));
    EXPECT_LE(made.told.needed_bytes, available);
    MemoryState memory = state(available, kAmple);
    memory.transformer = made.blocks;  // and another prompt comes
    const MemoryPlan again = plan(memory);
    EXPECT_EQ(again.blocks, made.blocks);
    EXPECT_LE(again.told.needed_bytes, available);
    EXPECT_GT(again.told.needed_bytes + block, available) << streamed;
  }
  EXPECT_GT(counts.size(), 4u);
}

TEST_F(UploadPlanTest, WhatAnEarlierCallChoseStaysWhileItFits) {
  const MemoryPlan first = first_plan(kAmple, &Plan::transformer_streamed);
  MemoryState memory = state(first.told.available_bytes, kAmple);
  memory.transformer = {BlockPlace::on_host, first.blocks.streamed + 2};
  EXPECT_EQ(plan(memory).blocks, *memory.transformer);
  memory.transformer->streamed = 1;
  EXPECT_GT(first.blocks.streamed, 1u);
  EXPECT_EQ(plan(memory).blocks, first.blocks);
}

TEST_F(UploadPlanTest, WhereTheHostHasNoRoomTheyComeFromTheDisk) {
  const MemoryPlan made = first_plan(size_t{2} << 20, &Plan::transformer_streamed);
  EXPECT_EQ(made.blocks.place, BlockPlace::files);
  EXPECT_FALSE(made.told.transformer_on_host);
  EXPECT_EQ(made.caching, Caching::direct);
}

TEST_F(UploadPlanTest, WhatCopiesGoThroughTakesMemoryOfTheHost) {
  constexpr size_t kMachine = size_t{64} << 20;
  const size_t available = first_plan(kMachine, &Plan::transformer_streamed).told.available_bytes;
  EXPECT_EQ(plan(available, kMachine).blocks.place, BlockPlace::on_host);
  device_.copies_through = kMachine;
  EXPECT_EQ(plan(available, kMachine).blocks.place, BlockPlace::files);
  EXPECT_EQ(plan(available, kMachine).caching, Caching::direct);
}

TEST_F(UploadPlanTest, LorasAreTakenIntoWeightsWhereThereIsRoom) {
  const WideningDevice device;
  MemoryState memory = state(kAmple, kAmple);
  memory.device = &device;
  EXPECT_EQ(plan(memory).blocks.place, BlockPlace::bound) << "without a LoRA";
  const StoredTensor down = {host_tensor({1, 192}, DType::f32)}, up = {host_tensor({192, 1}, DType::f32)};
  model_.transformer_files.branches["transformer_blocks.0.attn.to_q"] = {{down, up, 1}};
  const MemoryPlan wide = plan(memory);
  EXPECT_TRUE(wide.told.lora_widens);
  EXPECT_EQ(wide.blocks.place, BlockPlace::bound_wide);
  memory.available_bytes = wide.told.needed_bytes - 1;
  const MemoryPlan beside = plan(memory);
  EXPECT_FALSE(beside.told.lora_widens);
  EXPECT_EQ(beside.blocks.place, BlockPlace::bound);
  EXPECT_LT(beside.told.needed_bytes, wide.told.needed_bytes);
}

TEST_F(UploadPlanTest, TheTextEncoderStaysOnceSeveralPromptsCameIfThereIsRoom) {
  MemoryState memory = state(kAmple, kAmple);
  const auto keeps = [&] { return plan(memory).keeps_text_encoder; };
  EXPECT_FALSE(keeps()) << "the first prompt";
  memory.encodes_again = true;
  EXPECT_TRUE(keeps());
  const size_t with_it = plan(memory).told.needed_bytes;
  memory.available_bytes = with_it;
  EXPECT_TRUE(keeps());
  --memory.available_bytes;
  EXPECT_FALSE(keeps());
  EXPECT_LT(plan(memory).told.needed_bytes, with_it);
  memory = state(kAmple, kAmple);
  memory.encodes_again = memory.prompts_encoded = true;
  EXPECT_FALSE(keeps()) << "it is not there, and nobody brings it";
  memory.holds_text_encoder = true;
  EXPECT_TRUE(keeps());
  EXPECT_EQ(plan(memory).told.needed_bytes, with_it);
  memory.weights_copied = false;
  EXPECT_FALSE(keeps()) << "it is mapped";
}

TEST_F(UploadPlanTest, WhatCannotBeStreamedEitherIsRefused) {
  EXPECT_THAT(error_of([&] { plan(size_t{1} << 20, kAmple); }), ::testing::HasSubstr("are available"));
}

}  // namespace
}  // namespace inkstone
