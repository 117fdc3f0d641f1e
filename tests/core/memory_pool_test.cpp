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
  EXPECT_THAT([&] { pool.allocate(3 * kKilo); }, ThrowsMessage<Error>(HasSubstr("3072 bytes")));
  EXPECT_EQ(pool.current(), 8 * kKilo);
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
