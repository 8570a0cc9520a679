#pragma once

#include <optional>
#include <string>

#include "server/generation.h"
#include "server/tool_calls.h"

namespace moxie::server {

/// One answer as a row of blocks, a text and then calls of tools, for protocols that announce where
/// each begins and ends. Blocks come one after another.
class BlockAnswer : public Answer {
 public:
  /// `tools` is how calls are written, where tools were given.
  BlockAnswer(ExchangePtr to, std::optional<ToolCallFormat> tools) : Answer(std::move(to)) {
    if (tools) parser_.emplace(*tools);
  }

  void OnToken(size_t choice, const Token& token) final;
  void OnChoice(size_t choice, Completion completion) final;
  void OnEnd() final {}

 protected:
  virtual void BeginText() = 0;
  virtual void AddText(const std::string& text) = 0;
  virtual void EndText(const std::string& whole) = 0;
  virtual void BeginCall(const ToolCall& call) = 0;
  virtual void AddArguments(const std::string& arguments) = 0;
  virtual void EndCall(const ToolCall& whole) = 0;
  /// All blocks have ended.
  virtual void Complete(const Completion& completion, bool has_calls) = 0;

 private:
  void OnText(const std::string& text);
  void EndBlock();

  std::optional<ToolCallParser> parser_;
  std::string text_;
  bool in_text_ = false;
  size_t calls_begun_ = 0;
  bool in_call_ = false;
};

}  // namespace moxie::server
