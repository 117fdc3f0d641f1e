#include "core/system_limits.h"

#include <fstream>
#include <gtest/gtest.h>
#include <string>
#include <unistd.h>

#include "core/error.h"

namespace inkstone {
namespace {

namespace fs = std::filesystem;

/// A machine made of files.
class SystemLimitsTest : public ::testing::Test {
 protected:
  void SetUp() override { fs::create_directories(root_); }
  void TearDown() override { fs::remove_all(root_); }

  void write(const std::string& name, const std::string& text) const {
    fs::create_directories((root_ / name).parent_path());
    std::ofstream(root_ / name) << text;
  }

  void machine_with_free_kib(int kib) const {
    write("proc/meminfo", fmt::format("MemTotal:  9999999 kB\nMemAvailable:   {} kB\nCached: 5 kB\n", kib));
  }

  void version_2(const std::string& path, const std::string& mount_root = "/") const {
    write("proc/self/cgroup", "0::" + path + "\n");
    write("proc/self/mountinfo",
          fmt::format("25 1 0:20 / /proc rw - proc proc rw\n"
                      "31 23 0:28 {} /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n",
                      mount_root));
  }

  void version_1(const std::string& path, const std::string& mount_root = "/") const {
    write("proc/self/cgroup", fmt::format("9:name=systemd:/\n4:memory:{0}\n3:cpu,cpuacct:{0}\n", path));
    write("proc/self/mountinfo",
          fmt::format("35 31 0:32 {0} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
                      "32 31 0:29 {0} /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n",
                      mount_root));
  }

  size_t memory() const { return memory_left(root_).value_or(1); }

  const fs::path root_ = fs::path(::testing::TempDir()) / fmt::format("inkstone-limits-{}", getpid());
};

TEST_F(SystemLimitsTest, AMachineThatTellsNothingLimitsNothing) {
  EXPECT_FALSE(memory_left(root_));
  EXPECT_FALSE(processor_quota(root_));
}

TEST_F(SystemLimitsTest, WithoutGroupsTheFreeMemoryCounts) {
  machine_with_free_kib(1000);
  EXPECT_EQ(memory(), 1000u * 1024);
  version_2("/a");  // names a group that has no files
  EXPECT_EQ(memory(), 1000u * 1024);
}

TEST_F(SystemLimitsTest, Version2TakesTheTightestGroupOfAllAncestors) {
  machine_with_free_kib(1000);
  version_2("/a/b");
  write("sys/fs/cgroup/a/b/memory.max", "max\n");
  write("sys/fs/cgroup/a/b/memory.current", "500\n");
  EXPECT_EQ(memory(), 1000u * 1024);
  write("sys/fs/cgroup/a/memory.max", "100000\n");
  write("sys/fs/cgroup/a/memory.current", "30000\n");
  EXPECT_EQ(memory(), 70000u);
  write("sys/fs/cgroup/a/b/memory.max", "20000\n");
  EXPECT_EQ(memory(), 19500u);
}

TEST_F(SystemLimitsTest, ThePageCacheIsNoUse) {
  version_2("/a");
  write("sys/fs/cgroup/a/memory.max", "100000\n");
  write("sys/fs/cgroup/a/memory.current", "90000\n");
  write("sys/fs/cgroup/a/memory.stat", "anon 30000\nfile 60000\ninactive_file 40000\nactive_file 20000\n");
  EXPECT_EQ(memory(), 70000u);
}

TEST_F(SystemLimitsTest, NothingIsLeftAboveTheLimit) {
  version_2("/a");
  write("sys/fs/cgroup/a/memory.max", "1000\n");
  write("sys/fs/cgroup/a/memory.current", "5000\n");
  EXPECT_EQ(memory(), 0u);
}

TEST_F(SystemLimitsTest, Version1HasOtherNames) {
  machine_with_free_kib(1000);
  version_1("/box");
  write("sys/fs/cgroup/memory/box/memory.limit_in_bytes", "100000\n");
  write("sys/fs/cgroup/memory/box/memory.usage_in_bytes", "60000\n");
  write("sys/fs/cgroup/memory/box/memory.stat", "total_inactive_file 8000\ntotal_active_file 2000\ninactive_file 1\n");
  EXPECT_EQ(memory(), 50000u);
  write("sys/fs/cgroup/memory/box/memory.limit_in_bytes", "9223372036854771712\n");  // none
  EXPECT_EQ(memory(), 1000u * 1024);
}

TEST_F(SystemLimitsTest, InAContainerTheMountShowsOnlyItsOwnGroup) {
  version_1("/docker/abc", "/docker/abc");
  write("sys/fs/cgroup/memory/memory.limit_in_bytes", "100000\n");
  write("sys/fs/cgroup/memory/memory.usage_in_bytes", "10000\n");
  EXPECT_EQ(memory(), 90000u);
  version_1("/docker/abc/child", "/docker/abc");
  write("sys/fs/cgroup/memory/child/memory.limit_in_bytes", "30000\n");
  write("sys/fs/cgroup/memory/child/memory.usage_in_bytes", "10000\n");
  EXPECT_EQ(memory(), 20000u);
  version_2("/elsewhere", "/docker/abc");  // not below the mount
  write("sys/fs/cgroup/memory.max", "50000\n");
  write("sys/fs/cgroup/memory.current", "10000\n");
  EXPECT_EQ(memory(), 40000u);
}

TEST_F(SystemLimitsTest, ProcessorQuotaOfVersion2) {
  version_2("/a/b");
  write("sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
  EXPECT_FALSE(processor_quota(root_));
  write("sys/fs/cgroup/a/cpu.max", "150000 100000\n");
  EXPECT_EQ(processor_quota(root_), 1.5);
  write("sys/fs/cgroup/a/b/cpu.max", "50000 100000\n");
  EXPECT_EQ(processor_quota(root_), 0.5);
}

TEST_F(SystemLimitsTest, ProcessorQuotaOfVersion1) {
  version_1("/box");
  write("sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_quota_us", "-1\n");
  write("sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_period_us", "100000\n");
  EXPECT_FALSE(processor_quota(root_));
  write("sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_quota_us", "400000\n");
  EXPECT_EQ(processor_quota(root_), 4);
}

TEST_F(SystemLimitsTest, BrokenFilesLimitNothing) {
  machine_with_free_kib(10);
  write("proc/self/cgroup", "nonsense\n::\n0::\n");
  write("proc/self/mountinfo", "short\na b c - cgroup2\n");
  EXPECT_EQ(memory(), 10u * 1024);
  EXPECT_FALSE(processor_quota(root_));
}

}  // namespace
}  // namespace inkstone
