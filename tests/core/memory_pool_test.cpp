// What HostMemory's tests do not see: a source that runs dry before the bound is reached.
#include "core/memory_pool.h"

#include <gmock/gmock.h>

namespace inkstone {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

/// Blocks of whole kilobytes, of which there are only so many.
class FewBlocks final : public BlockSource {
 public:
  explicit FewBlocks(size_t bytes) : left_(bytes) {}

  size_t block_size(size_t bytes) const override { return (bytes + 1023) / 1024 * 1024; }
  void* take(size_t size) override {
    if (size > left_) return nullptr;
    left_ -= size;
    return ::operator new(size);
  }
  void give_back(void* data, size_t size) override {
    left_ += size;
    ::operator delete(data);
  }
  std::string name() const override { return "a test"; }

 private:
  size_t left_;
};

constexpr size_t kKilo = 1024;
constexpr size_t kNoLimit = size_t{1} << 40;

TEST(MemoryPool, GivesKeptBlocksBackToASourceThatRanDry) {
  MemoryPool pool(std::make_unique<FewBlocks>(10 * kKilo), kNoLimit);
  pool.allocate(4 * kKilo).reset();
  pool.allocate(5 * kKilo).reset();  // both are kept now, and one kilobyte is left
  EXPECT_NE(pool.allocate(10 * kKilo), nullptr);
}

TEST(MemoryPool, SaysWhenTheSourceIsDry) {
  MemoryPool pool(std::make_unique<FewBlocks>(10 * kKilo), kNoLimit);
  const auto held = pool.allocate(8 * kKilo);
  EXPECT_THAT(
      [&] { pool.allocate(3 * kKilo); },
      ThrowsMessage<Error>("out of memory on a test: 3.07 kB are wanted, 8.19 kB of 1.10 TB are in use, and the "
                           "system refuses more; with a smaller --memory less is held there at a time"));
  EXPECT_EQ(pool.current(), 8 * kKilo);
}

/// Memory of a device that works no more.
class LostBlocks final : public BlockSource {
 public:
  size_t block_size(size_t bytes) const override { return bytes; }
  void* take(size_t) override { throw Error("the device is lost"); }
  void give_back(void*, size_t) override {}
};

TEST(MemoryPool, AFaultOfTheSourceIsNoLackOfMemory) {
  MemoryPool pool(std::make_unique<LostBlocks>(), kNoLimit);
  for (int time = 0; time < 2; ++time) {
    EXPECT_THAT([&] { pool.allocate(kKilo); }, ThrowsMessage<Error>("the device is lost"));
    EXPECT_EQ(pool.current(), 0);
  }
}

TEST(MemoryPool, CountsWhatItTakesFromTheSourceAndGivesBack) {
  MemoryPool pool(std::make_unique<FewBlocks>(10 * kKilo), kNoLimit);
  pool.allocate(4 * kKilo).reset();
  const auto again = pool.allocate(4 * kKilo);
  EXPECT_EQ(pool.blocks_taken(), 1);
  pool.allocate(kKilo).reset();
  EXPECT_EQ(pool.blocks_taken(), 2);
  EXPECT_EQ(pool.blocks_given_back(), 0);
  pool.release_unused();
  EXPECT_EQ(pool.blocks_given_back(), 1);
}

TEST(MemoryPool, KnowsItsLimit) {
  EXPECT_EQ(MemoryPool(std::make_unique<FewBlocks>(kKilo), 5 * kKilo).limit(), 5 * kKilo);
}

TEST(PoolReserve, KeepsWhatCameFromItUntilItEnds) {
  MemoryPool pool(std::make_unique<FewBlocks>(10 * kKilo), kNoLimit);
  const void* first = nullptr;
  {
    PoolReserve reserve(pool);
    auto buffer = pool.allocate(4 * kKilo);
    first = buffer->data;
    buffer.reset();
    EXPECT_EQ(pool.allocate(4 * kKilo)->data, first) << "while it is open";
    reserve.close();
    EXPECT_NE(pool.allocate(4 * kKilo)->data, first);
    EXPECT_EQ(pool.current(), 4 * kKilo) << "what it keeps is in use";
  }
  EXPECT_EQ(pool.current(), 0);
  const auto a = pool.allocate(4 * kKilo), b = pool.allocate(4 * kKilo);
  EXPECT_TRUE(a->data == first || b->data == first);
}

TEST(PoolReserve, TakesNothingBackThatCameFromElsewhere) {
  MemoryPool pool(std::make_unique<FewBlocks>(10 * kKilo), kNoLimit);
  auto before = pool.allocate(4 * kKilo);
  const PoolReserve reserve(pool);
  before.reset();
  EXPECT_EQ(pool.current(), 0);
}

TEST(PoolReserve, ItsBuffersMayOutliveIt) {
  MemoryPool pool(std::make_unique<FewBlocks>(10 * kKilo), kNoLimit);
  std::shared_ptr<Buffer> buffer;
  {
    const PoolReserve reserve(pool);
    buffer = pool.allocate(4 * kKilo);
  }
  EXPECT_EQ(pool.current(), 4 * kKilo);
  buffer.reset();
  EXPECT_EQ(pool.current(), 0);
}

TEST(PoolReserve, TheLimitCountsWhatItKeeps) {
  MemoryPool pool(std::make_unique<FewBlocks>(10 * kKilo), 5 * kKilo);
  PoolReserve reserve(pool);
  pool.allocate(4 * kKilo).reset();
  reserve.close();
  EXPECT_THAT([&] { pool.allocate(2 * kKilo); }, ThrowsMessage<Error>(HasSubstr("out of memory")));
}

}  // namespace
}  // namespace inkstone
