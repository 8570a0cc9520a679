#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <vector>

#include "command.h"
#include "machine_file.h"
#include "moxie/machine.h"
#include "terminal.h"

namespace moxie::cli {
namespace {

using Json = nlohmann::ordered_json;

struct DoctorArguments {
  std::string folder;
  bool remeasure = false;
  bool json = false;
};

struct Findings {
  MachineReport machine;
  KnownMachine known;
  int64_t free_bytes = 0;            ///< of the folder's disk
  std::vector<std::string> missing;  ///< what keeps this machine from more, a sentence each
};

Findings Examine(const DoctorArguments& arguments) {
  Findings found;
  MachineReport& machine = found.machine = InspectMachine();
  found.known = LearnMachine(machine, arguments.folder, arguments.remeasure);
  found.missing = found.known.missing;
  std::error_code error;
  const auto space = std::filesystem::space(found.known.folder, error);
  if (!error) found.free_bytes = static_cast<int64_t>(space.available);
  for (const KernelSetReport& set : machine.kernel_sets) {
    if (!set.usable)
      found.missing.push_back(set.name + " kernels are in this build, but need " + set.needs);
    if (set.best && set.name == "scalar")
      found.missing.push_back("no vector instruction set can be used, so everything is slow");
  }
  if (machine.usable_cpus < machine.cpus)
    found.missing.push_back(std::to_string(machine.cpus - machine.usable_cpus) + " of " +
                            std::to_string(machine.cpus) +
                            " CPUs are out of reach (affinity or cgroup quota)");
  if (found.known.speeds.disk_bytes_per_s > 0 && !found.known.speeds.disk_direct)
    found.missing.push_back(found.known.folder +
                            ": reads go through the page cache (no O_DIRECT), so the disk's figure "
                            "may be the cache's");
  if (found.known.speeds.disk_method.starts_with("pread"))
    found.missing.push_back("io_uring is refused, so threads read files instead: " +
                            found.known.speeds.disk_method);
  return found;
}

Json ToJson(const Findings& found) {
  const MachineReport& m = found.machine;
  const MachineSpeeds& speeds = found.known.speeds;
  // What could not be measured is null.
  const auto number = [](double value) { return value > 0 ? Json(value) : Json(); };
  Json sets = Json::array();
  double compute = 0;
  for (const KernelSetReport& set : m.kernel_sets) {
    Json entry = {
        {"name", set.name}, {"usable", set.usable}, {"needs", set.needs}, {"best", set.best}};
    for (const KernelSpeed& speed : speeds.kernels) {
      if (speed.name != set.name) continue;
      entry["float_operations_per_s"] = number(speed.float_operations_per_s);
      entry["integer_operations_per_s"] = number(speed.integer_operations_per_s);
      if (set.best) compute = speed.float_operations_per_s;
    }
    sets.push_back(entry);
  }
  Json disk;
  if (speeds.disk_bytes_per_s > 0)
    disk = {{"folder", found.known.folder},
            {"free_bytes", found.free_bytes},
            {"read_bytes_per_s", speeds.disk_bytes_per_s},
            {"direct", speeds.disk_direct},
            {"method", speeds.disk_method}};
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
            {"read_bytes_per_s_one_thread", number(speeds.memory_bytes_per_s_one_thread)},
            {"read_bytes_per_s", number(speeds.memory_bytes_per_s)}}},
          {"float32_flops", number(compute)},
          {"disk", disk},
          {"kept_in", found.known.file},
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
  const MachineSpeeds& speeds = found.known.speeds;
  for (const KernelSetReport& set : m.kernel_sets) {
    std::string text = set.name + (set.usable ? ": " : ": not usable here");
    for (const KernelSpeed& speed : speeds.kernels) {
      if (speed.name == set.name)
        text += FormatFixed(speed.float_operations_per_s / 1e9, 0) + " GFLOP/s in float32, " +
                FormatFixed(speed.integer_operations_per_s / 1e9, 0) + " GOP/s in 8 bits";
    }
    row("kernels", text + (set.best ? ", taken by default" : ""));
  }
  row("memory", FormatBytes(m.memory_bytes) + ", " + FormatBytes(m.memory_available_bytes) +
                    " available, limit " + FormatBytes(m.memory_limit_bytes) + " (" +
                    m.memory_limit_by + ")");
  row("", per_second(speeds.memory_bytes_per_s_one_thread) + " read by one thread, " +
              per_second(speeds.memory_bytes_per_s) + " by all");
  if (speeds.disk_bytes_per_s > 0)
    row("disk", found.known.folder + ": " + FormatBytes(found.free_bytes) + " free, " +
                    per_second(speeds.disk_bytes_per_s) + " read (" + speeds.disk_method + ")");
  if (!found.known.file.empty())
    row("figures", std::string(found.known.measured_now ? "measured now" : "measured before") +
                       ", kept in " + found.known.file);
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
                   "Where to measure the disk: a temporary file of 256 MiB is written and read; if "
                   "absent where it was measured before, else here")
      ->type_name("FOLDER");
  command->add_flag("--remeasure", arguments->remeasure,
                    "Measure again; else figures that are kept are shown");
  command->add_flag("--json", arguments->json, "Print one JSON object");
}

}  // namespace moxie::cli
