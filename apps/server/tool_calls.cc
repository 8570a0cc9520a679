#include "server/tool_calls.h"

#include <algorithm>

namespace moxie::server {
namespace {

constexpr char kMistralMark[] = "[TOOL_CALLS]";
constexpr char kHermesMark[] = "<tool_call>";
constexpr char kLlamaMark[] = "<|python_tag|>";
constexpr char kSpace[] = " \t\r\n";

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

ToolCallParser::ToolCallParser(ToolCallFormat format)
    : from_start_(format == ToolCallFormat::kLlama3 || format == ToolCallFormat::kGeneric) {
  if (format == ToolCallFormat::kMistral) marks_ = {kMistralMark};
  if (format == ToolCallFormat::kHermes) marks_ = {kHermesMark};
  if (format == ToolCallFormat::kLlama3) marks_ = {kLlamaMark};
}

/// Takes what is certainly text out of held_, and notices where calls begin.
std::string ToolCallParser::TakeText() {
  const size_t first = held_.find_first_not_of(kSpace);
  if (from_start_ && !begun_) {
    if (first == std::string::npos) return "";
    calling_ = held_[first] == '{' || held_[first] == '[';
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

AnswerPiece ToolCallParser::Add(std::string_view piece) {
  held_ += piece;
  AnswerPiece result;
  if (!calling_) result.text = TakeText();
  if (!calling_) return result;
  for (const char c : std::exchange(held_, {})) Scan(c, result.calls);
  return result;
}

std::string ToolCallParser::Finish() { return std::exchange(held_, {}); }

/// Between calls only a brace matters: neither marks nor lists have one.
void ToolCallParser::Scan(char c, std::vector<AnswerPiece::CallPart>& parts) {
  const bool is_space = std::string_view(kSpace).find(c) != std::string_view::npos;
  const bool opens = !in_string_ && (c == '{' || (c == '[' && depth_ > 0));
  const bool closes = !in_string_ && (c == '}' || c == ']') && depth_ > 0;
  if (opens) ++depth_;
  if (opens && depth_ == 2 && (key_ == "arguments" || key_ == "parameters"))
    in_arguments_ = !calls_.empty();
  if (in_arguments_ && (in_string_ || !is_space)) {
    calls_.back().arguments += c;
    if (parts.empty() || parts.back().index + 1 != calls_.size())
      parts.push_back({calls_.size() - 1, ""});
    parts.back().arguments += c;
  }
  if (in_string_) {
    string_ += c;
    if (c == '"' && !escaped_) EndString(parts);
    escaped_ = c == '\\' && !escaped_;
  } else if (c == '"' && depth_ > 0) {
    in_string_ = true;
    string_ = c;
  }
  if (closes) --depth_;
  if (depth_ <= 1 && closes) in_arguments_ = false;
  if (!in_string_ && (depth_ == 0 || (depth_ == 1 && c == ','))) key_.clear();
}

void ToolCallParser::EndString(std::vector<AnswerPiece::CallPart>& parts) {
  in_string_ = false;
  if (depth_ != 1) return;
  const Json json = Json::parse(string_, nullptr, false);
  const std::string text = json.is_string() ? json.get<std::string>() : "";
  if (key_.empty()) {
    key_ = text;
  } else if (key_ == "name") {
    calls_.push_back({RandomId("", 9), text, ""});
    parts.push_back({calls_.size() - 1, ""});
  }
}

}  // namespace moxie::server
