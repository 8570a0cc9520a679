#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/function_ref.h"

namespace moxie {

/// Where Linux tells of control groups; tests put their own files there.
struct CgroupFiles {
  std::string groups = "/proc/self/cgroup";
  std::string mount = "/sys/fs/cgroup";
};

/// Calls use(folder, v2) for this process's control group and each above it, with the folder that
/// holds its files: those of version 2, and of version 1's `controller`. A limit of any binds.
void ForEachCgroup(const CgroupFiles& files, std::string_view controller,
                   FunctionRef<void(const std::string& folder, bool v2)> use);

/// The least CPU quota of these groups, in CPUs; nothing where none has one.
std::optional<double> CgroupCpuLimit(const CgroupFiles& files = {});

/// What the memory limits of these groups leave.
struct CgroupMemory {
  int64_t limit_bytes = 0;  ///< the least limit
  /// What can still be taken under all of them: limit less usage, page cache that can be dropped
  /// not counted.
  int64_t available_bytes = 0;
};

/// Nothing where no group has a limit.
std::optional<CgroupMemory> CgroupMemoryLeft(const CgroupFiles& files = {});

}  // namespace moxie
