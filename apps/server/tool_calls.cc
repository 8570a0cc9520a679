#include "server/tool_calls.h"

#include <algorithm>

namespace moxie::server {
namespace {

constexpr char kMistralMark[] = "[TOOL_CALLS]";
constexpr char kHermesMark[] = "<tool_call>";
constexpr char kHermesEnd[] = "</tool_call>";
constexpr char kLlamaMark[] = "<|python_tag|>";
constexpr char kSpace[] = " \t\r\n";
constexpr size_t kMostCalls = 128;

std::string_view Trimmed(std::string_view text) {
  const size_t first = text.find_first_not_of(kSpace);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kSpace) - first + 1);
}

bool Skip(std::string_view& text, std::string_view mark) {
  text = Trimmed(text);
  if (!text.starts_with(mark)) return false;
  text = Trimmed(text.substr(mark.size()));
  return true;
}

bool AddCall(const Json& json, std::vector<ToolCall>& calls) {
  if (!json.is_object() || !json.contains("name") || !json["name"].is_string()) return false;
  const char* field = json.contains("arguments") ? "arguments" : "parameters";
  if (!json.contains(field) || !json[field].is_object() || calls.size() >= kMostCalls) return false;
  const bool has_id = json.contains("id") && json["id"].is_string();
  calls.push_back({has_id ? json["id"].get<std::string>() : RandomId("", 9),
                   json["name"].get<std::string>(), json[field].dump()});
  return true;
}

/// One call or a list of them.
bool AddCalls(std::string_view text, std::vector<ToolCall>& calls) {
  const Json json = Json::parse(text, nullptr, false);
  if (!json.is_array()) return AddCall(json, calls);
  return !json.empty() && std::all_of(json.begin(), json.end(),
                                      [&](const Json& call) { return AddCall(call, calls); });
}

/// The length of the longest beginning of `mark` that `text` ends with.
size_t PartialMark(std::string_view text, std::string_view mark) {
  for (size_t length = std::min(text.size(), mark.size() - 1); length > 0; --length) {
    if (text.ends_with(mark.substr(0, length))) return length;
  }
  return 0;
}

}  // namespace

ToolCallFormat FormatOf(const ModelHost& host) {
  const Tokenizer& tokenizer = host.model().tokenizer();
  const std::string& source = host.description().chat_template;
  const auto knows = [&](const char* mark) {
    return tokenizer.FindPiece(mark).has_value() || source.find(mark) != std::string::npos;
  };
  if (knows(kMistralMark)) return ToolCallFormat::kMistral;
  if (knows(kHermesMark)) return ToolCallFormat::kHermes;
  if (knows(kLlamaMark)) return ToolCallFormat::kLlama3;
  return ToolCallFormat::kGeneric;
}

std::vector<ToolCall> ParseToolCalls(std::string_view text) {
  std::vector<ToolCall> calls;
  if (Skip(text, kMistralMark) || Skip(text, kLlamaMark) || !text.starts_with(kHermesMark))
    return AddCalls(text, calls) ? calls : std::vector<ToolCall>();
  while (Skip(text, kHermesMark)) {
    const size_t end = std::min(text.find(kHermesEnd), text.size());
    if (!AddCalls(text.substr(0, end), calls)) return {};
    text = text.substr(end);
    Skip(text, kHermesEnd);
  }
  return text.empty() ? calls : std::vector<ToolCall>();
}

ToolCallParser::ToolCallParser(ToolCallFormat format)
    : from_start_(format == ToolCallFormat::kLlama3 || format == ToolCallFormat::kGeneric) {
  if (format == ToolCallFormat::kMistral) marks_ = {kMistralMark};
  if (format == ToolCallFormat::kHermes) marks_ = {kHermesMark};
  if (format == ToolCallFormat::kLlama3) marks_ = {kLlamaMark};
}

std::string ToolCallParser::Add(std::string_view piece) {
  held_ += piece;
  if (calling_) return "";
  const size_t first = held_.find_first_not_of(kSpace);
  if (from_start_ && !begun_) {
    if (first == std::string::npos) return "";
    if (held_[first] == '{' || held_[first] == '[') calling_ = true;
    if (calling_) return "";
  }
  size_t keep = 0;
  for (const std::string& mark : marks_) {
    const size_t found = held_.find(mark);
    if (found != std::string::npos) {
      calling_ = true;
      keep = std::max(keep, held_.size() - found);
    }
    keep = std::max(keep, PartialMark(held_, mark));
  }
  std::string text = held_.substr(0, held_.size() - keep);
  held_.erase(0, text.size());
  begun_ = begun_ || !text.empty();
  return text;
}

ToolCallParser::Rest ToolCallParser::Finish() {
  Rest rest;
  if (calling_) rest.calls = ParseToolCalls(held_);
  if (rest.calls.empty()) rest.text = held_;
  return rest;
}

}  // namespace moxie::server
