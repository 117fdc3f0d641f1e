#include "core/memory_nodes.h"

#include <cerrno>
#include <fstream>
#include <gmock/gmock.h>
#include <linux/mempolicy.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace inkstone {
namespace {

/// The nodes of a machine whose file says this.
std::vector<int> nodes_of(const std::string& has_memory) {
  const auto root = std::filesystem::path(testing::TempDir()) / "memory_nodes";
  std::filesystem::create_directories(root / "sys/devices/system/node");
  std::ofstream(root / "sys/devices/system/node/has_memory") << has_memory;
  return memory_nodes(root);
}

TEST(MemoryNodes, AreThoseOfTheSystemsList) {
  EXPECT_THAT(nodes_of("0\n"), testing::ElementsAre(0));
  EXPECT_THAT(nodes_of("0-1\n"), testing::ElementsAre(0, 1));
  EXPECT_THAT(nodes_of("0-2,5,8-9\n"), testing::ElementsAre(0, 1, 2, 5, 8, 9));
  EXPECT_THAT(nodes_of(""), testing::IsEmpty());
  EXPECT_THAT(nodes_of("0-999999999\n"), testing::SizeIs(1024)) << "no more than Linux has";
  EXPECT_THAT(memory_nodes("/nowhere"), testing::IsEmpty());
}

// With one node as with several the system keeps the policy of the pages, which tells that it was understood.
TEST(MemoryNodes, PagesAreSpreadOverThem) {
  const std::vector<int> nodes = memory_nodes();
  if (nodes.empty()) GTEST_SKIP() << "this system tells of none";
  constexpr size_t kBytes = size_t{1} << 20;
  void* const data = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(data, MAP_FAILED);
  const bool spread = spread_pages(data, kBytes, nodes);
  const int error = errno;
  int policy = -1;
  unsigned long mask[16] = {};
  const long asked = syscall(SYS_get_mempolicy, &policy, mask, sizeof mask * 8, data, MPOL_F_ADDR);
  munmap(data, kBytes);
  if (!spread && (error == EPERM || error == ENOSYS)) GTEST_SKIP() << "this system does not allow it";
  ASSERT_TRUE(spread) << error;
  ASSERT_EQ(asked, 0);
  EXPECT_EQ(policy, MPOL_INTERLEAVE);
  EXPECT_EQ(mask[0] & 1UL << nodes.front(), 1UL << nodes.front());
}

}  // namespace
}  // namespace inkstone
