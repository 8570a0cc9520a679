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

}  // namespace moxie
