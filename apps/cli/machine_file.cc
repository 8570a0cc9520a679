#include "machine_file.h"

#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>

#include "files.h"
#include "terminal.h"

namespace moxie::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kVersion = 5;  // Of the file: raised when what is measured changes.

std::filesystem::path CacheFolder() {
  const char* const cache = std::getenv("XDG_CACHE_HOME");
  const char* const home = std::getenv("HOME");
  if (cache != nullptr && *cache == '/') return std::filesystem::path(cache) / "moxie";
  if (home != nullptr && *home != '\0') return std::filesystem::path(home) / ".cache/moxie";
  return {};
}

/// What figures are good for. A change of any of it makes them old.
Json Identity(const MachineReport& machine) {
  Json sets = Json::array();
  for (const KernelSetReport& set : machine.kernel_sets) {
    if (set.usable) sets.push_back(set.name);
  }
  return {{"processor", machine.processor},
          {"usable_cpus", machine.usable_cpus},
          {"kernels", sets},
          {"memory_bytes", machine.memory_bytes}};
}

Json ToJson(const MachineReport& machine, const KnownMachine& known) {
  const MachineSpeeds& speeds = known.speeds;
  Json kernels = Json::array();
  for (const KernelSpeed& set : speeds.kernels)
    kernels.push_back({{"name", set.name},
                       {"float_operations_per_s", set.float_operations_per_s},
                       {"integer_operations_per_s", set.integer_operations_per_s}});
  return {{"version", kVersion},
          {"machine", Identity(machine)},
          {"memory_bytes_per_s_one_thread", speeds.memory_bytes_per_s_one_thread},
          {"memory_bytes_per_s", speeds.memory_bytes_per_s},
          {"new_memory_bytes_per_s", speeds.new_memory_bytes_per_s},
          {"kernels", kernels},
          {"folder", known.folder},
          {"disk_bytes_per_s", speeds.disk_bytes_per_s},
          {"cached_bytes_per_s", speeds.cached_bytes_per_s},
          {"disk_direct", speeds.disk_direct},
          {"disk_method", speeds.disk_method}};
}

/// The file's figures where they are of this machine. A file that is not as we write it is as none.
std::optional<KnownMachine> FromJson(const std::string& text, const MachineReport& machine) {
  try {
    const Json json = Json::parse(text);
    if (json.at("version") != kVersion || json.at("machine") != Identity(machine))
      return std::nullopt;
    KnownMachine known;
    MachineSpeeds& speeds = known.speeds;
    json.at("memory_bytes_per_s_one_thread").get_to(speeds.memory_bytes_per_s_one_thread);
    json.at("memory_bytes_per_s").get_to(speeds.memory_bytes_per_s);
    json.at("new_memory_bytes_per_s").get_to(speeds.new_memory_bytes_per_s);
    for (const Json& set : json.at("kernels"))
      speeds.kernels.push_back(
          {set.at("name"), set.at("float_operations_per_s"), set.at("integer_operations_per_s")});
    json.at("folder").get_to(known.folder);
    json.at("disk_bytes_per_s").get_to(speeds.disk_bytes_per_s);
    json.at("cached_bytes_per_s").get_to(speeds.cached_bytes_per_s);
    json.at("disk_direct").get_to(speeds.disk_direct);
    json.at("disk_method").get_to(speeds.disk_method);
    return known;
  } catch (const Json::exception&) {
    return std::nullopt;
  }
}

std::string Absolute(const std::string& folder) {
  std::error_code error;
  const std::filesystem::path path = std::filesystem::weakly_canonical(folder, error);
  return error ? folder : path.string();
}

}  // namespace

KnownMachine LearnMachine(const MachineReport& machine, const std::string& folder, bool again) {
  const std::filesystem::path cache = CacheFolder();
  const std::string file = cache.empty() ? "" : (cache / "machine.json").string();
  const std::string wanted = folder.empty() ? "" : Absolute(folder);
  if (!again && !file.empty()) {
    const Result<std::string> text = ReadFile(file);
    std::optional<KnownMachine> known = text ? FromJson(*text, machine) : std::nullopt;
    // A disk whose folder is gone says nothing of where models lie now.
    std::error_code error;
    if (known && (wanted.empty() ? std::filesystem::is_directory(known->folder, error)
                                 : wanted == known->folder)) {
      known->file = file;
      return *std::move(known);
    }
  }
  KnownMachine known;
  known.measured_now = true;
  known.folder = wanted.empty() ? Absolute(".") : wanted;
  ProgressBar bar("measuring this machine once");
  bar.Show(0.5);
  known.speeds = MeasureMachine(machine, known.folder, known.missing);
  bar.Clear();
  if (file.empty()) return known;
  std::error_code error;
  std::filesystem::create_directories(cache, error);
  if (WriteFile(file, ToJson(machine, known).dump(2) + "\n")) known.file = file;
  return known;
}

}  // namespace moxie::cli
