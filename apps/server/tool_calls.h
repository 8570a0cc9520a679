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
  std::string arguments;  ///< a JSON object without insignificant spaces, or the beginning of one
};

/// How a model writes tool calls, from its vocabulary and chat template.
ToolCallFormat FormatOf(const ModelHost& host);

/// What one more piece of an answer brings.
struct AnswerPiece {
  /// More of a call, or a new one.
  struct CallPart {
    size_t index = 0;  ///< in ToolCallParser::calls
    std::string arguments;
  };
  std::string text;  ///< before any call
  std::vector<CallPart> calls;
};

/// Splits an answer that arrives in pieces into text and tool calls, and these into their names and
/// pieces of their arguments. Calls are taken to be well-formed, as constraints make them.
class ToolCallParser {
 public:
  explicit ToolCallParser(ToolCallFormat format);

  AnswerPiece Add(std::string_view piece);
  /// The answer has ended: text that looked like a call's beginning and was none.
  std::string Finish();
  /// All calls so far; the arguments of the last one may be cut short.
  const std::vector<ToolCall>& calls() const { return calls_; }

 private:
  std::string TakeText();
  void Scan(char c, std::vector<AnswerPiece::CallPart>& parts);
  void EndString(std::vector<AnswerPiece::CallPart>& parts);

  std::vector<std::string> marks_;  ///< that begin calls
  bool from_start_;                 ///< a call may begin without a mark, at the answer's beginning
  std::string held_;                ///< text that may yet be a mark
  bool begun_ = false;              ///< text has been handed out
  bool calling_ = false;
  std::vector<ToolCall> calls_;
  // Where in a call the scan is.
  int depth_ = 0;  ///< of braces and brackets, from the call's own
  bool in_string_ = false;
  bool escaped_ = false;  ///< after a backslash
  bool in_arguments_ = false;
  std::string string_;  ///< in its quotes, as far as it was read
  std::string key_;     ///< of the call's member whose value comes
};

}  // namespace moxie::server
