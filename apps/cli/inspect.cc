#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "command.h"
#include "moxie/model.h"
#include "options.h"
#include "terminal.h"

namespace moxie::cli {
namespace {

using Json = nlohmann::ordered_json;

struct InspectArguments {
  std::string model;
  bool tensors = false;
  bool json = false;
};

struct TypeTotal {
  int64_t count = 0;
  int64_t elements = 0;
  int64_t bytes = 0;
};

std::map<std::string, TypeTotal> TotalsByType(const ModelDescription& model) {
  std::map<std::string, TypeTotal> totals;
  for (const TensorDescription& tensor : model.tensors) {
    TypeTotal& total = totals[tensor.type];
    int64_t elements = 1;
    for (const int64_t size : tensor.shape) elements *= size;
    ++total.count;
    total.elements += elements;
    total.bytes += tensor.bytes;
  }
  return totals;
}

Json ToJson(const ModelDescription& m, bool tensors) {
  Json out = {{"path", m.path},
              {"layout", m.layout},
              {"family", m.family},
              {"name", m.name},
              {"parameters", {{"total", m.parameters}, {"active", m.active_parameters}}},
              {"bytes", m.file_bytes},
              {"dim", m.dim},
              {"layers", m.layers},
              {"mixture_layers", m.mixture_layers},
              {"heads", m.heads},
              {"kv_heads", m.kv_heads},
              {"head_dim", m.head_dim},
              {"ffn_dim", m.ffn_dim},
              {"experts", m.experts},
              {"experts_per_token", m.experts_per_token},
              {"expert_ffn_dim", m.expert_ffn_dim},
              {"shared_ffn_dim", m.shared_ffn_dim},
              {"vocab_size", m.vocab_size},
              {"context_length", m.context_length},
              {"window", m.window},
              {"window_layers", m.window_layers},
              {"rope_base", m.rope_base},
              {"rope_scaling", m.rope_scaling},
              {"tied_embeddings", m.tied_embeddings}};
  const auto id_or_null = [](TokenId id) { return id < 0 ? Json() : Json(id); };
  out["tokenizer"] = {{"kind", m.tokenizer},      {"vocab_size", m.tokenizer_vocab},
                      {"bos", id_or_null(m.bos)}, {"eos", id_or_null(m.eos)},
                      {"adds_bos", m.adds_bos},   {"stop_tokens", m.stop_tokens}};
  out["chat_template"] = m.chat_template.empty() ? Json() : Json(m.chat_template);
  Json& types = out["tensors_by_type"] = Json::object();
  for (const auto& [type, total] : TotalsByType(m))
    types[type] = {{"count", total.count}, {"elements", total.elements}, {"bytes", total.bytes}};
  if (!tensors) return out;
  Json& list = out["tensors"] = Json::array();
  for (const TensorDescription& tensor : m.tensors)
    list.push_back({{"name", tensor.name},
                    {"type", tensor.type},
                    {"shape", tensor.shape},
                    {"bytes", tensor.bytes}});
  return out;
}

std::string ShapeText(const std::vector<int64_t>& shape) {
  std::string text;
  for (const int64_t size : shape) text += (text.empty() ? "" : " x ") + std::to_string(size);
  return text;
}

std::string Shapes(const ModelDescription& m) {
  std::string text = "dim " + std::to_string(m.dim) + ", " + std::to_string(m.layers) +
                     " layers, " + std::to_string(m.heads) + " heads of " +
                     std::to_string(m.head_dim) + ", " + std::to_string(m.kv_heads) + " kv";
  if (m.ffn_dim > 0) text += ", ffn " + std::to_string(m.ffn_dim);
  return text;
}

std::string Experts(const ModelDescription& m) {
  std::string text = std::to_string(m.experts) + ", " + std::to_string(m.experts_per_token) +
                     " a token, ffn " + std::to_string(m.expert_ffn_dim) + ", in " +
                     std::to_string(m.mixture_layers) + " of " + std::to_string(m.layers) +
                     " layers";
  if (m.shared_ffn_dim > 0) text += ", beside a shared one of " + std::to_string(m.shared_ffn_dim);
  return text;
}

void PrintText(const ModelDescription& m, bool tensors) {
  const auto row = [](const std::string& name, const std::string& text) {
    Print(Styled(stdout, Style::kBold, name) + std::string(12 - name.size(), ' ') + text + "\n");
  };
  row("model", m.name.empty() ? m.path : m.name);
  row("family", m.family + " (" + m.layout + ")");
  row("parameters", FormatCount(m.parameters) +
                        (m.experts > 0 ? ", " + FormatCount(m.active_parameters) + " active" : ""));
  row("shapes", Shapes(m));
  if (m.experts > 0) row("experts", Experts(m));
  row("context", std::to_string(m.context_length) +
                     (m.window > 0 ? ", window " + std::to_string(m.window) + " in " +
                                         std::to_string(m.window_layers) + " layers"
                                   : "") +
                     ", rope base " + FormatFixed(m.rope_base, 0) +
                     (m.rope_scaling == "none" ? "" : ", " + m.rope_scaling + " scaling"));
  row("tokenizer",
      std::to_string(m.tokenizer_vocab) + " tokens" +
          (m.bos >= 0 ? ", bos " + std::to_string(m.bos) + (m.adds_bos ? " (added)" : "") : "") +
          (m.eos >= 0 ? ", eos " + std::to_string(m.eos) : ""));
  row("template",
      m.chat_template.empty() ? "none" : std::to_string(m.chat_template.size()) + " bytes");
  for (const auto& [type, total] : TotalsByType(m))
    row(type, std::to_string(total.count) + (total.count == 1 ? " tensor, " : " tensors, ") +
                  FormatBytes(total.bytes));
  row("files", FormatBytes(m.file_bytes) + " of tensors");
  if (!tensors) return;
  Print("\n");
  for (const TensorDescription& tensor : m.tensors)
    Print(tensor.name + "\t" + tensor.type + "\t" + ShapeText(tensor.shape) + "\t" +
          FormatBytes(tensor.bytes) + "\n");
}

int Inspect(const InspectArguments& arguments) {
  const Result<ModelDescription> model = DescribeModel(arguments.model);
  if (!model) return Fail("inspect", model.error());
  if (arguments.json) {
    Print(ToJson(*model, arguments.tensors).dump(2, ' ', false, Json::error_handler_t::replace) +
          "\n");
  } else {
    PrintText(*model, arguments.tensors);
  }
  return kDone;
}

}  // namespace

void AddInspect(Program& program) {
  const auto arguments = std::make_shared<InspectArguments>();
  CLI::App* const command =
      AddCommand(program, "inspect", "Say what a model is, from its files alone",
                 [arguments] { return Inspect(*arguments); });
  AddModelArgument(*command, arguments->model);
  command->add_flag("--tensors", arguments->tensors, "List every tensor: name, type, shape, size");
  command->add_flag("--json", arguments->json, "Print one JSON object");
}

}  // namespace moxie::cli
