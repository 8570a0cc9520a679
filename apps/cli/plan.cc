#include "moxie/plan.h"

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "command.h"
#include "moxie/machine.h"
#include "options.h"
#include "table.h"
#include "terminal.h"

namespace moxie::cli {
namespace {

using Json = nlohmann::ordered_json;

struct PlanArguments {
  ModelArguments model;
  std::string type;
  int parallel = 1;
  bool list = false;
  bool json = false;
};

/// Memory that is to be had: --memory, else what the machine lets this process use.
int64_t Available(const PlanArguments& arguments) {
  const int64_t asked = arguments.model.ToOptions().memory_bytes;
  if (asked > 0) return asked;
  const MachineReport machine = InspectMachine();
  return AutomaticMemoryBytes(machine);
}

Json ToJson(const ModelPlan& plan, int64_t available) {
  const MemoryNeed& need = plan.need;
  return {{"type", plan.type},
          {"weight_bytes", plan.weight_bytes},
          {"bytes_per_token", plan.bytes_per_token},
          {"memory",
           {{"weights", need.weights},
            {"experts", need.experts},
            {"kv_cache", need.kv_cache},
            {"activations", need.activations},
            {"io_buffers", need.io_buffers},
            {"tokenizer", need.tokenizer},
            {"program", need.program},
            {"total", need.total()}}},
          {"least_bytes", plan.least_bytes},
          {"fits", need.total() <= available},
          {"streamed", plan.streamed},
          {"expert_slots", plan.expert_slots},
          {"experts", plan.experts},
          {"hit_rate", plan.hit_rate}};
}

std::string ToJson(const std::vector<ModelPlan>& plans, int64_t available) {
  const ModelPlan& first = plans.front();
  const ModelOptions& options = first.options;
  Json rows = Json::array();
  for (const ModelPlan& plan : plans) rows.push_back(ToJson(plan, available));
  const Json out = {{"model", first.name},
                    {"parameters", first.parameters},
                    {"active_parameters", first.active_parameters},
                    {"context", options.context},
                    {"parallel", options.parallel},
                    {"batch_tokens", options.batch_tokens},
                    {"kv_type", options.kv_type},
                    {"threads", options.threads},
                    {"available_bytes", available},
                    {"plans", rows}};
  return out.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string Plural(int64_t count, const std::string& noun) {
  return std::to_string(count) + " " + noun + (count == 1 ? "" : "s");
}

std::string Heading(const ModelPlan& plan) {
  const ModelOptions& options = plan.options;
  std::string text =
      Styled(stdout, Style::kBold, plan.name) + ", " + FormatCount(plan.parameters) + " parameters";
  if (plan.active_parameters < plan.parameters)
    text += ", " + FormatCount(plan.active_parameters) + " of them for a token";
  text += "\n" + Plural(options.parallel, "sequence") + " of " + std::to_string(options.context) +
          " tokens, keys and values in " + options.kv_type + ", " +
          std::to_string(options.batch_tokens) + " tokens at once, " +
          Plural(options.threads, "thread") + "\n\n";
  return text;
}

/// Where the memory of one plan goes.
std::string MemoryTable(const ModelPlan& plan, int64_t available) {
  const MemoryNeed& need = plan.need;
  Table table({Align::kLeft, Align::kRight, Align::kLeft});
  const auto row = [&](const std::string& name, int64_t bytes, const std::string& note) {
    if (bytes > 0) table.Add({name, FormatBytes(bytes), note});
  };
  row("weights", need.weights, plan.type + (need.experts > 0 ? ", all but experts" : ""));
  row("experts", need.experts,
      plan.streamed ? std::to_string(plan.expert_slots) + " of " + std::to_string(plan.experts)
                    : "all");
  row("keys and values", need.kv_cache, "at the full context");
  row("activations", need.activations, "of the forward pass and of sampling");
  row("reading", need.io_buffers, "between disk and experts");
  row("tokenizer", need.tokenizer, "and metadata");
  row("program", need.program, "code, libraries, stacks");
  table.Add({"total", FormatBytes(need.total()),
             (need.total() <= available ? "fits in " : "more than ") + FormatBytes(available)});
  return table.Text();
}

/// How the types compare.
std::string TypeTable(const std::vector<ModelPlan>& plans, int64_t available) {
  Table table({Align::kLeft, Align::kRight, Align::kRight, Align::kRight, Align::kLeft});
  table.AddHeading({"type", "weights", "a token", "memory", "in " + FormatBytes(available)});
  for (const ModelPlan& plan : plans)
    table.Add({plan.type, FormatBytes(plan.weight_bytes), FormatBytes(plan.bytes_per_token),
               FormatBytes(plan.need.total()), plan.need.total() <= available ? "fits" : "-"});
  return table.Text();
}

int List(bool json) {
  Json out = Json::array();
  Table table({Align::kLeft, Align::kRight, Align::kRight, Align::kLeft});
  table.AddHeading({"name", "parameters", "a token's", "shape from"});
  for (const CatalogueEntry& entry : ListCatalogue()) {
    table.Add({entry.name, FormatCount(entry.parameters), FormatCount(entry.active_parameters),
               entry.source});
    out.push_back({{"name", entry.name},
                   {"title", entry.title},
                   {"parameters", entry.parameters},
                   {"active_parameters", entry.active_parameters},
                   {"source", entry.source}});
  }
  Print(json ? out.dump(2) + "\n" : table.Text());
  return kDone;
}

int Plan(const PlanArguments& arguments) {
  if (arguments.list) return List(arguments.json);
  const std::string& model = arguments.model.model;
  if (model.empty())
    return Fail("plan", {ErrorCode::kInvalidInput, "MODEL is absent, and so is --list"});
  ModelOptions options = arguments.model.ToOptions();
  options.parallel = arguments.parallel;
  std::vector<std::string> types = {arguments.type};
  if (arguments.type.empty()) {
    const std::vector<CatalogueEntry> known = ListCatalogue();
    const bool named = std::any_of(known.begin(), known.end(),
                                   [&](const auto& entry) { return entry.name == model; });
    const std::vector<std::string> all = PlanTypes();
    if (named) types.clear();
    types.insert(types.end(), all.begin(), all.end());
  }
  const Result<std::vector<ModelPlan>> plans = PlanModel(model, types, options);
  if (!plans) return Fail("plan", plans.error());
  const int64_t available = Available(arguments);
  if (arguments.json) {
    Print(ToJson(*plans, available));
    return kDone;
  }
  // The one that was asked for, or the most precise one that fits.
  const auto fits = [&](const ModelPlan& plan) { return plan.need.total() <= available; };
  auto shown = plans->begin();
  if (arguments.type.empty()) {
    shown = std::find_if(plans->begin(), plans->end(), fits);
    if (shown == plans->end()) --shown;
  }
  Print(Heading(*shown) + MemoryTable(*shown, available));
  if (plans->size() > 1) Print("\n" + TypeTable(*plans, available));
  return kDone;
}

}  // namespace

void AddPlan(Program& program) {
  const auto arguments = std::make_shared<PlanArguments>();
  CLI::App* const command =
      AddCommand(program, "plan", "Say what memory and speed to expect, before loading anything",
                 [arguments] { return Plan(*arguments); });
  AddModelOptions(*command, arguments->model);
  command->get_option("MODEL")->required(false)->description(
      "A model as for other commands, or a name that --list shows, for which no file is needed");
  command
      ->add_option(
          "--type", arguments->type,
          "Type of the weights, as if the model were stored so; if absent all are compared")
      ->type_name("TYPE");
  command->add_option("--parallel", arguments->parallel, "Sequences that run at once")
      ->type_name("N")
      ->default_str("1")
      ->check(CLI::Range(1, 4096).description(""));
  command->add_flag("--list", arguments->list, "List the models that are known by name");
  command->add_flag("--json", arguments->json, "Print one JSON object");
  command->footer(
      "Examples:\n"
      "  moxie plan model.gguf --context 32768\n"
      "  moxie plan mixtral-8x7b --memory 24GiB\n"
      "  moxie plan qwen3-30b-a3b --type q4_k --kv-type f16 --json");
}

}  // namespace moxie::cli
