#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "command.h"
#include "moxie/machine.h"
#include "terminal.h"

namespace moxie::cli {
namespace {

using Json = nlohmann::ordered_json;

struct DoctorArguments {
  std::string folder = ".";
  bool json = false;
};

struct Findings {
  MachineReport machine;
  std::optional<double> memory_one_thread;  ///< bytes a second
  std::optional<double> memory_all_threads;
  std::optional<double> compute;  ///< float32 operations a second
  std::optional<DiskReport> disk;
  std::vector<std::string> missing;  ///< what keeps this machine from more, a sentence each
};

/// The measured value; where there is none, the reason joins what is missing.
template <class T>
std::optional<T> Take(Result<T> result, std::vector<std::string>& missing) {
  if (result) return std::move(*result);
  missing.push_back(result.error().message);
  return std::nullopt;
}

Findings Examine(const DoctorArguments& arguments) {
  Findings found;
  ProgressBar bar("measuring");
  MachineReport& machine = found.machine = InspectMachine();
  // A small limit must not be exceeded by looking at it.
  const int64_t bytes =
      std::clamp<int64_t>(machine.memory_limit_bytes / 16, int64_t{64} << 20, int64_t{256} << 20);
  bar.Show(0.0);
  found.memory_one_thread = Take(MeasureMemoryBandwidth(1, bytes), found.missing);
  bar.Show(0.25);
  found.memory_all_threads =
      Take(MeasureMemoryBandwidth(machine.usable_cpus, bytes), found.missing);
  bar.Show(0.5);
  found.compute = Take(MeasureComputeRate(machine.usable_cpus), found.missing);
  bar.Show(0.75);
  found.disk = Take(MeasureDisk(arguments.folder), found.missing);
  for (const KernelSetReport& set : machine.kernel_sets) {
    if (!set.usable)
      found.missing.push_back(set.name + " kernels are in this build, but cannot run here");
    if (set.best && set.name == "scalar")
      found.missing.push_back("no vector instruction set can be used, so everything is slow");
  }
  if (machine.usable_cpus < machine.cpus)
    found.missing.push_back(std::to_string(machine.cpus - machine.usable_cpus) + " of " +
                            std::to_string(machine.cpus) +
                            " CPUs are out of reach (affinity or cgroup quota)");
  if (found.disk && !found.disk->direct)
    found.missing.push_back(found.disk->folder +
                            ": reads go through the page cache (no O_DIRECT), so the disk's figure "
                            "may be the cache's");
  return found;
}

Json ToJson(const Findings& found) {
  const MachineReport& m = found.machine;
  const auto number = [](const auto& value) { return value ? Json(*value) : Json(); };
  Json sets = Json::array();
  for (const KernelSetReport& set : m.kernel_sets)
    sets.push_back({{"name", set.name}, {"usable", set.usable}, {"best", set.best}});
  Json disk;
  if (found.disk)
    disk = {{"folder", found.disk->folder},
            {"free_bytes", found.disk->free_bytes},
            {"read_bytes_per_s", found.disk->read_bytes_per_s},
            {"direct", found.disk->direct}};
  return {{"processor", m.processor},
          {"operating_system", m.operating_system},
          {"cpus", m.cpus},
          {"usable_cpus", m.usable_cpus},
          {"kernels", sets},
          {"memory",
           {{"bytes", m.memory_bytes},
            {"available_bytes", m.memory_available_bytes},
            {"limit_bytes", m.memory_limit_bytes},
            {"limit_by", m.memory_limit_by},
            {"read_bytes_per_s_one_thread", number(found.memory_one_thread)},
            {"read_bytes_per_s", number(found.memory_all_threads)}}},
          {"float32_flops", number(found.compute)},
          {"disk", disk},
          {"missing", found.missing}};
}

void PrintText(const Findings& found) {
  const MachineReport& m = found.machine;
  const auto row = [](const std::string& name, const std::string& text) {
    Print(Styled(stdout, Style::kBold, name) + std::string(12 - name.size(), ' ') + text + "\n");
  };
  const auto per_second = [](double bytes) { return FormatFixed(bytes / 1e9, 1) + " GB/s"; };
  row("processor", m.processor + ", " + std::to_string(m.usable_cpus) + " of " +
                       std::to_string(m.cpus) + " CPUs usable");
  row("system", m.operating_system);
  for (const KernelSetReport& set : m.kernel_sets)
    row("kernels", set.name + (set.usable ? ": usable" : ": not usable here") +
                       (set.best ? ", taken by default" : ""));
  if (found.compute)
    row("arithmetic", FormatFixed(*found.compute / 1e9, 1) + " GFLOP/s in float32");
  row("memory", FormatBytes(m.memory_bytes) + ", " + FormatBytes(m.memory_available_bytes) +
                    " available, limit " + FormatBytes(m.memory_limit_bytes) + " (" +
                    m.memory_limit_by + ")");
  if (found.memory_one_thread && found.memory_all_threads)
    row("", per_second(*found.memory_one_thread) + " read by one thread, " +
                per_second(*found.memory_all_threads) + " by all");
  if (found.disk)
    row("disk", found.disk->folder + ": " + FormatBytes(found.disk->free_bytes) + " free, " +
                    per_second(found.disk->read_bytes_per_s) + " read" +
                    (found.disk->direct ? " (O_DIRECT)" : " (through the page cache)"));
  for (const std::string& missing : found.missing) row("missing", missing);
  if (found.missing.empty()) row("missing", "nothing");
}

}  // namespace

void AddDoctor(Program& program) {
  const auto arguments = std::make_shared<DoctorArguments>();
  CLI::App* const command = AddCommand(
      program, "doctor", "Say what this machine offers, and what is missing", [arguments] {
        const Findings found = Examine(*arguments);
        if (arguments->json) {
          Print(ToJson(found).dump(2) + "\n");
        } else {
          PrintText(found);
        }
        return kDone;
      });
  command
      ->add_option("--folder", arguments->folder,
                   "Where to measure the disk: a temporary file of 256 MiB is written and read")
      ->type_name("FOLDER")
      ->default_str(".");
  command->add_flag("--json", arguments->json, "Print one JSON object");
}

}  // namespace moxie::cli
