#include "moxie/plan.h"

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "command.h"
#include "files.h"
#include "machine_file.h"
#include "moxie/machine.h"
#include "options.h"
#include "table.h"
#include "terminal.h"

namespace moxie::cli {
namespace {

using Json = nlohmann::ordered_json;

struct PlanArguments {
  ModelArguments model;
  std::optional<std::string> type;
  std::string routing;  ///< file with a trace, or empty
  int parallel = 1;
  double speed = 0;  ///< tokens a second that are wanted; 0: not asked for
  bool memory_only = false;
  bool list = false;
  bool json = false;
};

/// What all rows are seen against.
struct Frame {
  int64_t available = 0;                ///< bytes
  std::optional<KnownMachine> machine;  ///< nothing: speed is not planned
  double wanted = 0;                    ///< tokens a second, or 0
  bool routed = false;                  ///< hit rates are those of a trace
};

/// Tokens a second: slow ones with two decimals.
std::string FormatRate(double rate) { return FormatFixed(rate, rate < 1 ? 2 : 1); }

/// The memory with which the wanted speed is reached, or nothing.
std::optional<int64_t> MemoryFor(const ModelPlan& plan, const Frame& frame) {
  if (frame.wanted <= 0 || !plan.speed) return std::nullopt;
  return MemoryForSpeed(plan, frame.wanted);
}

Json ToJson(const TokenSeconds& seconds) {
  return {{"attention", seconds.attention},
          {"experts", seconds.experts},
          {"head", seconds.head},
          {"rest", seconds.rest},
          {"sampling", seconds.sampling}};
}

Json ToJson(const ModelPlan& plan, const Frame& frame) {
  const MemoryNeed& need = plan.need;
  Json out = {{"type", plan.type},
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
              {"all_bytes", plan.all_bytes},
              {"fits", plan.fits},
              {"streamed", plan.streamed},
              {"expert_slots", plan.expert_slots},
              {"experts", plan.experts},
              {"expert_bytes", plan.expert_bytes},
              {"pass_tokens", plan.pass_tokens},
              {"hit_rate", plan.hit_rate}};
  if (plan.speed)
    out["speed"] = {
        {"prefill_tokens_per_s", plan.speed->prefill_tokens_per_s},
        {"decode_tokens_per_s", plan.speed->decode_tokens_per_s},
        {"load_s", plan.speed->load_s},
        {"load_cached_s", plan.speed->load_cached_s},
        {"disk_bytes_per_s", plan.speed->disk_bytes_per_s},
        {"bytes_from_disk", plan.speed->bytes_from_disk},
        {"limit", plan.speed->limit},
        {"seconds",
         {{"prefill", ToJson(plan.speed->prefill)}, {"decode", ToJson(plan.speed->decode)}}}};
  if (frame.wanted > 0) {
    const std::optional<int64_t> bytes = MemoryFor(plan, frame);
    out["bytes_for_speed"] = bytes ? Json(*bytes) : Json();
  }
  return out;
}

std::string ToJson(const std::vector<ModelPlan>& plans, const Frame& frame) {
  const ModelPlan& first = plans.front();
  const ModelOptions& options = first.options;
  Json rows = Json::array();
  for (const ModelPlan& plan : plans) rows.push_back(ToJson(plan, frame));
  const Json out = {{"model", first.name},
                    {"parameters", first.parameters},
                    {"active_parameters", first.active_parameters},
                    {"context", options.context},
                    {"parallel", options.parallel},
                    {"batch_tokens", options.batch_tokens},
                    {"kv_type", options.kv_type},
                    {"threads", options.threads},
                    {"available_bytes", frame.available},
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

/// Where the memory of one plan goes, and how fast it runs.
std::string DetailTable(const ModelPlan& plan, const Frame& frame) {
  const MemoryNeed& need = plan.need;
  Table table({Align::kLeft, Align::kRight, Align::kLeft});
  const auto row = [&](const std::string& name, int64_t bytes, const std::string& note) {
    if (bytes > 0) table.Add({name, FormatBytes(bytes), note});
  };
  row("weights", need.weights, plan.type + (need.experts > 0 ? ", all but experts" : ""));
  row("experts", need.experts,
      plan.streamed
          ? std::to_string(plan.expert_slots) + " of " + std::to_string(plan.experts) +
                ", the others on disk; " + FormatFixed(100 * plan.hit_rate, 0) +
                (frame.routed ? " % found of the routing given" : " % found where routing is even")
          : "all");
  row("keys and values", need.kv_cache, "at the full context");
  row("activations", need.activations, "of the forward pass and of sampling");
  row("reading", need.io_buffers, "between disk and experts");
  row("tokenizer", need.tokenizer, "and metadata");
  row("program", need.program, "code, libraries, stacks, page tables");
  table.Add({"total", FormatBytes(need.total()),
             (plan.fits ? "fits in " : "more than ") + FormatBytes(frame.available)});
  std::string text = table.Text();
  if (!plan.speed) return text;
  const SpeedPlan& speed = *plan.speed;
  Table rates({Align::kLeft, Align::kRight, Align::kLeft});
  rates.Add({"prefill", FormatRate(speed.prefill_tokens_per_s), "tokens/s"});
  rates.Add(
      {"decode", FormatRate(speed.decode_tokens_per_s), "tokens/s, limited by " + speed.limit});
  if (plan.streamed) rates.Add({"from disk", FormatBytes(speed.bytes_from_disk), "a token"});
  rates.Add(
      {"load", FormatFixed(speed.load_s, 1),
       "s from the disk, " + FormatFixed(speed.load_cached_s, 1) + " s out of the page cache"});
  if (frame.wanted > 0) {
    const std::optional<int64_t> bytes = MemoryFor(plan, frame);
    rates.Add({FormatFixed(frame.wanted, 1) + " tokens/s", bytes ? FormatBytes(*bytes) : "-",
               bytes ? "of memory are needed"
                     : "not on this machine: in memory it decodes " +
                           FormatRate(1 / speed.decode.total()) + " tokens/s"});
  }
  return text + "\n" + rates.Text();
}

/// How the types compare.
std::string TypeTable(const std::vector<ModelPlan>& plans, const Frame& frame) {
  std::vector<Align> columns(frame.wanted > 0 ? 8 : 7, Align::kRight);
  columns.front() = Align::kLeft;
  columns[4] = Align::kLeft;
  Table table(columns);
  std::vector<std::string> heading = {"type", "weights", "a token", "memory",
                                      "",     "prefill", "decode"};
  if (frame.wanted > 0) heading.push_back("for " + FormatFixed(frame.wanted, 1) + "/s");
  table.AddHeading(heading);
  for (const ModelPlan& plan : plans) {
    const bool fast = plan.fits && plan.speed.has_value();
    std::vector<std::string> row = {
        plan.type,
        FormatBytes(plan.weight_bytes),
        FormatBytes(plan.bytes_per_token),
        FormatBytes(plan.need.total()),
        !plan.fits ? "too much" : (plan.streamed ? "experts on disk" : "fits"),
        fast ? FormatRate(plan.speed->prefill_tokens_per_s) : "-",
        fast ? FormatRate(plan.speed->decode_tokens_per_s) : "-"};
    if (frame.wanted > 0) {
      const std::optional<int64_t> bytes = MemoryFor(plan, frame);
      row.push_back(bytes ? FormatBytes(*bytes) : "never");
    }
    table.Add(row);
  }
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

/// The one that was asked for; of all types the most precise that fits, else the one that decodes
/// fastest with experts on disk, else the smallest.
std::vector<ModelPlan>::const_iterator ChooseShown(const std::vector<ModelPlan>& plans, bool all) {
  if (!all) return plans.begin();
  const auto whole = std::find_if(plans.begin(), plans.end(), [](const ModelPlan& plan) {
    return plan.fits && !plan.streamed;
  });
  if (whole != plans.end()) return whole;
  const auto rank = [](const ModelPlan& plan) {
    const double rate = plan.speed ? plan.speed->decode_tokens_per_s : 0;
    return std::tuple(plan.fits, rate, -plan.need.total());
  };
  return std::max_element(plans.begin(), plans.end(),
                          [&](const auto& a, const auto& b) { return rank(a) < rank(b); });
}

int Plan(const PlanArguments& arguments) {
  if (arguments.list) return List(arguments.json);
  const std::string& model = arguments.model.model;
  if (model.empty())
    return Fail("plan", {ErrorCode::kInvalidInput, "MODEL is absent, and so is --list"});
  ModelOptions options = arguments.model.ToOptions();
  options.parallel = arguments.parallel;
  std::vector<std::string> types = {arguments.type.value_or("")};
  if (!arguments.type) {
    const std::vector<CatalogueEntry> known = ListCatalogue();
    const bool named = std::any_of(known.begin(), known.end(),
                                   [&](const auto& entry) { return entry.name == model; });
    const std::vector<std::string> all = PlanTypes();
    if (named) types.clear();
    types.insert(types.end(), all.begin(), all.end());
  }
  Frame frame{.available = 0, .machine = std::nullopt, .wanted = arguments.speed};
  if (!arguments.memory_only) frame.machine = LearnMachine(InspectMachine(), "", false);
  std::optional<RoutingTrace> routing;
  if (!arguments.routing.empty()) {
    const Result<std::string> text = ReadFile(arguments.routing);
    if (!text) return Fail("plan", text.error());
    Result<RoutingTrace> trace = ParseRoutingTrace(*text, arguments.routing);
    if (!trace) return Fail("plan", trace.error());
    routing = *std::move(trace);
    frame.routed = true;
  }
  const Result<std::vector<ModelPlan>> plans =
      PlanModel(model, types, options, frame.machine ? &frame.machine->speeds : nullptr,
                routing ? &*routing : nullptr);
  if (!plans) return Fail("plan", plans.error());
  frame.available = plans->front().options.memory_bytes;
  if (arguments.json) {
    Print(ToJson(*plans, frame));
    return kDone;
  }
  const auto shown = ChooseShown(*plans, !arguments.type);
  Print(Heading(*shown) + DetailTable(*shown, frame));
  if (plans->size() > 1) Print("\n" + TypeTable(*plans, frame));
  if (frame.machine && !frame.machine->file.empty())
    Print("\nSpeeds are those of this machine after a prompt of " +
          std::to_string(std::min(kPlanPromptTokens, shown->options.context)) +
          " tokens; its figures are kept in " + frame.machine->file + ".\n");
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
      ->add_option("--type", arguments->type,
                   "Type of the weights, as if the model were stored so, or \"\": a file as it is; "
                   "if absent "
                   "all are compared")
      ->type_name("TYPE");
  command->add_option("--parallel", arguments->parallel, "Sequences that run at once")
      ->type_name("N")
      ->default_str("1")
      ->check(CLI::Range(1, 4096).description(""));
  command
      ->add_option("--speed", arguments->speed,
                   "Tokens a second that are wanted: says how much memory they need")
      ->type_name("N")
      ->check(CLI::Range(1e-6, 1e9).description(""));
  command
      ->add_option("--routing", arguments->routing,
                   "A routing that `moxie run --trace` wrote: what the cache would find of it, "
                   "instead of even routing")
      ->type_name("FILE");
  command->add_flag("--memory-only", arguments->memory_only,
                    "Leave speed out, for which this machine would be measured");
  command->add_flag("--list", arguments->list, "List the models that are known by name");
  command->add_flag("--json", arguments->json, "Print one JSON object");
  command->footer(
      "Examples:\n"
      "  moxie plan model.gguf --context 32768\n"
      "  moxie plan mixtral-8x7b --memory 24GiB\n"
      "  moxie plan mixtral-8x7b --memory 8GiB --speed 10\n"
      "  moxie plan qwen3-30b-a3b --type q4_k_m --kv-type f16 --json");
}

}  // namespace moxie::cli
