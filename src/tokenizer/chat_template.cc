#include "tokenizer/chat_template.h"

#include <algorithm>
#include <utility>

#include "tokenizer/jinja_interpreter.h"
#include "tokenizer/jinja_operators.h"
#include "tokenizer/jinja_parser.h"

namespace moxie {

struct ChatTemplate::Program {
  jinja::Block block;
};

namespace {

Error ToError(const jinja::Failure& failure) {
  const std::string place =
      failure.line > 0 ? "chat template line " + std::to_string(failure.line) : "chat template";
  // What raise_exception says may have several lines, an error's sentence has one.
  std::string message = failure.message;
  std::replace_if(
      message.begin(), message.end(), [](char c) { return c == '\n' || c == '\r'; }, ' ');
  return {ErrorCode::kInvalidInput, place + ": " + message};
}

}  // namespace

ChatTemplate::ChatTemplate(std::unique_ptr<Program> program) : program_(std::move(program)) {}
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;
ChatTemplate::~ChatTemplate() = default;

Result<ChatTemplate> ChatTemplate::Compile(std::string_view source) {
  try {
    auto program = std::make_unique<Program>();
    program->block = jinja::ParseTemplate(source);
    return ChatTemplate(std::move(program));
  } catch (const jinja::Failure& failure) {
    return ToError(failure);
  }
}

Result<std::string> ChatTemplate::Render(std::string_view variables_json,
                                         const TemplateLimits& limits) const {
  try {
    jinja::Interpreter interpreter(jinja::ParseJsonObject(variables_json), limits);
    return interpreter.Render(program_->block);
  } catch (const jinja::Failure& failure) {
    return ToError(failure);
  }
}

}  // namespace moxie
