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

TEST_F(Cgroup, FindsNoneWhereNoneIs) {
  EXPECT_EQ(Limit(), std::nullopt);
  Write("groups", "0::/\ngarbage\n::\n7:cpuset:/x\n");
  Write("fs/cpu.max", "max 100000\n");
  Write("fs/x/cpu.max", "100000 100000\n");
  EXPECT_EQ(Limit(), std::nullopt);
}

}  // namespace
}  // namespace moxie
