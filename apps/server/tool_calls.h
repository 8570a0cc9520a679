#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "moxie/constraint.h"
#include "server/json.h"
#include "server/model_host.h"

namespace moxie::server {

struct ToolCall {
  std::string id;  ///< nine letters or digits, as Mistral's templates want them back
  std::string name;
  std::string arguments;  ///< a JSON object
};

/// How a model writes tool calls, from its vocabulary and chat template.
ToolCallFormat FormatOf(const ModelHost& host);

/// Splits an answer that arrives in pieces into text and tool calls.
class ToolCallParser {
 public:
  explicit ToolCallParser(ToolCallFormat format);

  /// Text that is certainly no part of a call; what follows a call's beginning is kept.
  std::string Add(std::string_view piece);

  struct Rest {
    std::string text;  ///< what looked like a call and is none
    std::vector<ToolCall> calls;
  };
  Rest Finish();

 private:
  std::string held_;
  std::vector<std::string> marks_;  ///< that begin calls
  bool from_start_;                 ///< a call may begin without a mark, at the answer's beginning
  bool begun_ = false;              ///< text has been handed out
  bool calling_ = false;
};

/// The calls of a text such as `[TOOL_CALLS] [{"name": ..., "arguments": {...}}]`, in any of the
/// formats. Empty where it is not that alone.
std::vector<ToolCall> ParseToolCalls(std::string_view text);

}  // namespace moxie::server
