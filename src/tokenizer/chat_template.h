#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "moxie/result.h"

namespace moxie {

/// Limits of one rendering: templates come from model files and are not trusted.
struct TemplateLimits {
  int64_t steps = 10'000'000;
  int64_t depth = 200;
  int64_t output_bytes = 64 << 20;
};

/// A compiled chat template: the Jinja that model files contain, as transformers runs it
/// (trim_blocks and lstrip_blocks on, loop controls, `tojson` without ASCII escapes,
/// raise_exception, strftime_now, generation blocks), without attribute, file or network access.
/// Immutable; safe to render concurrently.
class ChatTemplate {
 public:
  /// Errors: kInvalidInput with line and what was expected.
  static Result<ChatTemplate> Compile(std::string_view source);
  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;
  ~ChatTemplate();

  /// Renders with the variables of a JSON object: messages, tools, documents, bos_token, eos_token,
  /// add_generation_prompt, and any others. Order of keys is kept.
  ///
  /// Errors: kInvalidInput with raise_exception's message, a type error and its line, or the limit
  /// that was reached.
  Result<std::string> Render(std::string_view variables_json,
                             const TemplateLimits& limits = {}) const;

 private:
  struct Program;
  explicit ChatTemplate(std::unique_ptr<Program> program);
  std::unique_ptr<Program> program_;
};

}  // namespace moxie
