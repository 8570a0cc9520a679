#include "core/cgroup.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "support/temp_folder.h"

namespace moxie {
namespace {

class Cgroup : public ::testing::Test {
 protected:
  void Write(const std::string& name, const std::string& text) {
    const std::filesystem::path path = folder_.path() / name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << text;
  }
  std::optional<double> Limit() const {
    return CgroupCpuLimit({.groups = folder_.path() / "groups", .mount = folder_.path() / "fs"});
  }
  std::optional<CgroupMemory> MemoryLeft() const {
    return CgroupMemoryLeft({.groups = folder_.path() / "groups", .mount = folder_.path() / "fs"});
  }

  testing::TempFolder folder_;
};

// The files as the kernel's documentation of cgroup-v2 (cpu.max) and of CFS bandwidth control
// (cpu.cfs_quota_us, cpu.cfs_period_us) describes them.
TEST_F(Cgroup, TakesTheLeastQuotaOfVersion2) {
  Write("groups", "0::/outer/inner\n");
  Write("fs/cpu.max", "max 100000\n");
  Write("fs/outer/cpu.max", "150000 100000\n");
  Write("fs/outer/inner/cpu.max", "800000 200000\n");
  EXPECT_EQ(Limit(), 1.5);
}

TEST_F(Cgroup, TakesTheLeastQuotaOfVersion1) {
  Write("groups", "3:cpuset:/elsewhere\n2:cpu,cpuacct:/a/b\n");
  Write("fs/cpu/cpu.cfs_quota_us", "-1\n");
  Write("fs/cpu/cpu.cfs_period_us", "100000\n");
  Write("fs/cpu/a/cpu.cfs_quota_us", "300000\n");
  Write("fs/cpu/a/cpu.cfs_period_us", "100000\n");
  Write("fs/cpu/a/b/cpu.cfs_quota_us", "25000\n");
  Write("fs/cpu/a/b/cpu.cfs_period_us", "50000\n");
  EXPECT_EQ(Limit(), 0.5);
}

// memory.stat of version 2 counts a group with those below it; of version 1, "total_" does.
TEST_F(Cgroup, SaysWhatOthersLeaveOfVersion2) {
  Write("groups", "0::/outer/inner\n");
  Write("fs/outer/memory.max", "1000000\n");
  Write("fs/outer/memory.current", "700000\n");
  Write("fs/outer/memory.stat",
        "anon 400000\nfile 300000\nactive_file 100000\n"
        "inactive_file 150000\n");
  Write("fs/outer/inner/memory.max", "max\n");
  Write("fs/outer/inner/memory.current", "600000\n");
  const auto left = MemoryLeft();
  ASSERT_TRUE(left);
  EXPECT_EQ(left->limit_bytes, 1000000);
  EXPECT_EQ(left->available_bytes, 1000000 - (700000 - 250000));
  Write("fs/outer/inner/memory.max", "500000\n");
  EXPECT_EQ(MemoryLeft()->limit_bytes, 500000);
  EXPECT_EQ(MemoryLeft()->available_bytes, 0);
}

TEST_F(Cgroup, SaysWhatOthersLeaveOfVersion1) {
  Write("groups", "4:memory:/a\n");
  Write("fs/memory/memory.limit_in_bytes", "9223372036854771712\n");
  Write("fs/memory/a/memory.limit_in_bytes", "800000\n");
  Write("fs/memory/a/memory.usage_in_bytes", "300000\n");
  Write("fs/memory/a/memory.stat",
        "inactive_file 5\ntotal_inactive_file 50000\n"
        "total_active_file 10000\n");
  const auto left = MemoryLeft();
  ASSERT_TRUE(left);
  EXPECT_EQ(left->limit_bytes, 800000);
  EXPECT_EQ(left->available_bytes, 800000 - (300000 - 60000));
}

TEST_F(Cgroup, FindsNoneWhereNoneIs) {
  EXPECT_EQ(Limit(), std::nullopt);
  Write("groups", "0::/\ngarbage\n::\n7:cpuset:/x\n");
  Write("fs/cpu.max", "max 100000\n");
  Write("fs/x/cpu.max", "100000 100000\n");
  EXPECT_EQ(Limit(), std::nullopt);
}

}  // namespace
}  // namespace moxie
