#include "core/host_memory.h"

#include <atomic>
#include <cstring>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <thread>
#include <vector>

namespace inkstone {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

constexpr size_t kMega = size_t{1} << 20;
constexpr size_t kNoLimit = size_t{1} << 40;

TEST(HostMemory, BuffersAreAlignedAndAtLeastAsLargeAsAsked) {
  HostMemory memory(kNoLimit);
  for (const size_t bytes : {size_t{0}, size_t{1}, size_t{63}, size_t{65}, size_t{5000}, 3 * kMega + 1}) {
    const auto buffer = memory.allocate(bytes);
    EXPECT_EQ(buffer->bytes, bytes);
    EXPECT_EQ(reinterpret_cast<size_t>(buffer->data) % 64, 0u);
    std::memset(buffer->data, 0xab, bytes);
  }
}

TEST(HostMemory, BuffersInUseDoNotOverlap) {
  HostMemory memory(kNoLimit);
  std::vector<std::shared_ptr<Buffer>> buffers;
  for (int i = 0; i < 50; ++i) {
    buffers.push_back(memory.allocate(100 + static_cast<size_t>(i) * 37));
    std::memset(buffers.back()->data, i, buffers.back()->bytes);
    if (i % 3 == 2) buffers.erase(buffers.begin() + i / 3);
  }
  for (const auto& buffer : buffers) {
    const auto* bytes = static_cast<const unsigned char*>(buffer->data);
    for (size_t i = 1; i < buffer->bytes; ++i) ASSERT_EQ(bytes[i], bytes[0]);
  }
}

TEST(HostMemory, ReturnedBuffersAreUsedAgain) {
  HostMemory memory(kNoLimit);
  for (const size_t bytes : {size_t{1000}, 5 * kMega}) {
    auto buffer = memory.allocate(bytes);
    const void* const data = buffer->data;
    buffer.reset();
    buffer = memory.allocate(bytes);
    EXPECT_EQ(buffer->data, data);
    buffer.reset();
    EXPECT_EQ(memory.allocate(bytes - bytes / 10)->data, data) << "a slightly smaller request";
  }
}

TEST(HostMemory, AMuchSmallerRequestDoesNotWasteALargeBuffer) {
  HostMemory memory(kNoLimit);
  auto large = memory.allocate(8 * kMega);
  const void* const data = large->data;
  large.reset();
  const auto small = memory.allocate(4 * kMega);
  EXPECT_NE(small->data, data);
  EXPECT_LE(memory.current(), 5 * kMega);
}

TEST(HostMemory, CountsWhatIsInUseAndTheMostThatWas) {
  HostMemory memory(kNoLimit);
  EXPECT_EQ(memory.current(), 0u);
  auto a = memory.allocate(64 * 100);
  auto b = memory.allocate(64 * 50);
  EXPECT_EQ(memory.current(), 64u * 150);
  a.reset();
  EXPECT_EQ(memory.current(), 64u * 50);
  EXPECT_EQ(memory.peak(), 64u * 150);
  memory.reset_peak();
  EXPECT_EQ(memory.peak(), 64u * 50);
  b.reset();
  EXPECT_EQ(memory.current(), 0u);
  EXPECT_EQ(memory.peak(), 64u * 50);
}

TEST(HostMemory, RefusesWhatIsBeyondTheLimit) {
  HostMemory memory(4096);
  const auto buffer = memory.allocate(3072);
  EXPECT_THAT([&] { memory.allocate(2048); },
              ThrowsMessage<Error>("out of memory on the host: 2.05 kB are wanted, 3.07 kB of 4.10 kB are in use; "
                                   "--memory sets how much may be"));
  EXPECT_THAT([&] { memory.allocate(std::numeric_limits<size_t>::max()); }, ThrowsMessage<Error>(HasSubstr("memory")));
  EXPECT_EQ(memory.current(), 3072u) << "a refused request counts nothing";
  EXPECT_EQ(memory.peak(), 3072u);
  EXPECT_NO_THROW(memory.allocate(1024));
}

TEST(HostMemory, ReturnedBuffersDoNotCountAgainstTheLimit) {
  HostMemory memory(10 * kMega);
  memory.allocate(9 * kMega);
  EXPECT_NO_THROW(memory.allocate(4 * kMega));
}

TEST(HostMemory, GivesBackToTheSystemWhatNoOneWillUse) {
  HostMemory memory(kNoLimit);
  const size_t before = resident_memory();
  for (size_t i = 0; i < 20; ++i) {  // sizes that do not fit each other, one at a time
    const auto buffer = memory.allocate((10 + 4 * i) * kMega);
    std::memset(buffer->data, 1, buffer->bytes);
  }
  EXPECT_LT(resident_memory(), before + 250 * kMega) << "960 MiB were used, at most 86 at once";
}

TEST(HostMemory, WithoutBackingItHoldsWhatARealOneWould) {
  HostMemory real(100 * kMega), counted(100 * kMega, HostMemory::Backing::none);
  for (HostMemory* memory : {&real, &counted}) {
    auto kept = memory->allocate(3 * kMega);
    for (const size_t mega : {20, 18, 40, 7}) memory->allocate(mega * kMega);
  }
  EXPECT_EQ(counted.most_held(), real.most_held());
  EXPECT_EQ(counted.held(), real.held());
  EXPECT_GE(real.held(), 40 * kMega);
  const auto one = counted.allocate(kMega), other = counted.allocate(kMega);
  EXPECT_EQ(one->data, other->data) << "neither has memory";
}

TEST(HostMemory, ItsLimitCanMove) {
  HostMemory memory(100 * kMega);
  const auto used = memory.allocate(10 * kMega);
  memory.allocate(40 * kMega);
  EXPECT_GE(memory.held(), 50 * kMega);
  memory.set_limit(20 * kMega);
  EXPECT_LE(memory.held(), 20 * kMega);
  EXPECT_THAT([&] { memory.allocate(11 * kMega); }, ThrowsMessage<Error>(HasSubstr("memory")));
  memory.set_limit(100 * kMega);
  memory.allocate(11 * kMega);
  memory.release_unused();
  EXPECT_EQ(memory.held(), memory.current());
}

TEST(HostMemory, BuffersMayOutliveThePool) {
  std::shared_ptr<Buffer> buffer;
  {
    HostMemory memory(kNoLimit);
    buffer = memory.allocate(3 * kMega);
  }
  std::memset(buffer->data, 1, buffer->bytes);
}

TEST(HostMemory, ThreadsMayShareIt) {
  HostMemory memory(kNoLimit);
  std::atomic<int> torn = 0;
  std::vector<std::thread> threads;
  for (int id = 1; id <= 4; ++id)
    threads.emplace_back([&, id] {
      for (size_t i = 0; i < 500; ++i) {
        const auto buffer = memory.allocate(64 + i % 7 * 100);
        auto* bytes = static_cast<unsigned char*>(buffer->data);
        std::memset(bytes, id, buffer->bytes);
        if (bytes[0] != id || bytes[buffer->bytes - 1] != id) ++torn;
      }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(torn, 0);
  EXPECT_EQ(memory.current(), 0u);
}

TEST(HostMemory, AvailableAndResidentMemoryArePlausible) {
  EXPECT_GT(available_memory(), kMega);
  EXPECT_GT(resident_memory(), kMega / 4);
  HostMemory memory(kNoLimit);
  const size_t before = resident_memory();
  const auto buffer = memory.allocate(64 * kMega);
  std::memset(buffer->data, 1, buffer->bytes);
  EXPECT_GE(resident_memory(), before + 60 * kMega);
}

}  // namespace
}  // namespace inkstone
