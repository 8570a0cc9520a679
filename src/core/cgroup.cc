#include "core/cgroup.h"

#include <algorithm>
#include <fstream>

namespace moxie {
namespace {

/// Whether `name` is one of a list's comma-separated names.
bool Lists(std::string_view list, std::string_view name) {
  while (!list.empty()) {
    const size_t comma = std::min(list.find(','), list.size());
    if (list.substr(0, comma) == name) return true;
    list.remove_prefix(std::min(comma + 1, list.size()));
  }
  return false;
}

int64_t IntegerIn(const std::string& file) {
  std::ifstream in(file);
  int64_t value = 0;
  return in >> value ? value : 0;
}

/// Bytes of page cache in lines of "name value": what memory.stat says of the group and those
/// below it.
int64_t FileCacheBytes(const std::string& file, bool v2) {
  std::ifstream in(file);
  int64_t bytes = 0, value = 0;
  for (std::string name; in >> name >> value;) {
    const std::string_view own = std::string_view(name).substr(v2 || name.size() < 6 ? 0 : 6);
    if (!v2 && !name.starts_with("total_")) continue;
    if (own == "inactive_file" || own == "active_file") bytes += value;
  }
  return bytes;
}

/// The number that a file begins with, if it is positive ("max" and -1 mean no limit).
std::optional<double> PositiveIn(std::istream& in) {
  double value = 0;
  if (in >> value && value > 0) return value;
  return std::nullopt;
}

}  // namespace

void ForEachCgroup(const CgroupFiles& files, std::string_view controller,
                   FunctionRef<void(const std::string& folder, bool v2)> use) {
  std::ifstream groups(files.groups);
  for (std::string line; std::getline(groups, line);) {  // number:controllers:path
    const size_t first = line.find(':');
    const size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const auto controllers = std::string_view(line).substr(first + 1, second - first - 1);
    const bool v2 = controllers.empty();
    if (!v2 && !Lists(controllers, controller)) continue;
    const std::string root = v2 ? files.mount : files.mount + "/" + std::string(controller);
    for (std::string path = line.substr(second + 1);; path.resize(path.rfind('/'))) {
      if (path == "/") path.clear();
      use(root + path, v2);
      if (path.rfind('/') == std::string::npos) break;
    }
  }
}

std::optional<double> CgroupCpuLimit(const CgroupFiles& files) {
  std::optional<double> least;
  ForEachCgroup(files, "cpu", [&](const std::string& folder, bool v2) {
    // Microseconds of CPU time in each period: in one file, or in two.
    std::ifstream first(folder + (v2 ? "/cpu.max" : "/cpu.cfs_quota_us"));
    const std::optional<double> quota = PositiveIn(first);
    std::ifstream second(folder + "/cpu.cfs_period_us");
    const std::optional<double> period = PositiveIn(v2 ? first : second);
    if (quota && period && (!least || *quota / *period < *least)) least = *quota / *period;
  });
  return least;
}

std::optional<CgroupMemory> CgroupMemoryLeft(const CgroupFiles& files) {
  std::optional<CgroupMemory> least;
  ForEachCgroup(files, "memory", [&](const std::string& folder, bool v2) {
    const int64_t limit = IntegerIn(folder + (v2 ? "/memory.max" : "/memory.limit_in_bytes"));
    if (limit <= 0) return;  // "max" is none.
    const int64_t usage = IntegerIn(folder + (v2 ? "/memory.current" : "/memory.usage_in_bytes"));
    const int64_t used = usage - FileCacheBytes(folder + "/memory.stat", v2);
    const CgroupMemory here{limit, std::max<int64_t>(limit - std::max<int64_t>(used, 0), 0)};
    if (!least) least = here;
    least->limit_bytes = std::min(least->limit_bytes, here.limit_bytes);
    least->available_bytes = std::min(least->available_bytes, here.available_bytes);
  });
  return least;
}

}  // namespace moxie
