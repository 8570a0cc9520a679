#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "moxie/generate.h"
#include "moxie/model.h"
#include "moxie/result.h"

namespace moxie {

/// One turn of a conversation.
struct Message {
  std::string role;  ///< "system", "user", "assistant" or "tool"
  std::string content;
  std::string fields_json;  ///< its other fields (tool_calls, name, ...) as a JSON object, or empty
};

/// What else a chat template is given.
struct ChatOptions {
  bool add_generation_prompt = true;  ///< ends with the opening of the assistant's turn
  std::string tools_json;             ///< a JSON array, or empty
  std::string documents_json;         ///< a JSON array, or empty
};

/// The conversation as the model's own chat template writes it.
///
/// Errors: kUnsupported where the model has no template; kInvalidInput where the template refuses
/// the conversation (its own message) or does not compile.
Result<std::string> RenderChat(const Model& model, const std::vector<Message>& messages,
                               const ChatOptions& options = {});

/// RenderChat's text as token ids: the template writes BOS and the special tokens itself, so none
/// is added.
Result<std::vector<TokenId>> EncodeChat(const Model& model, const std::vector<Message>& messages,
                                        const ChatOptions& options = {});

/// A conversation with one model. Each turn computes only what the turns before have not: the
/// engine keeps the keys and values of the finished turn and finds the common beginning.
/// Not thread-safe.
class Conversation {
 public:
  /// Both must outlive the conversation.
  Conversation(const Model& model, Engine& engine) : model_(model), engine_(engine) {}

  /// The system message, placed before everything else; empty removes it.
  void SetSystem(std::string text) { system_ = std::move(text); }
  const std::string& system() const { return system_; }

  /// Turns so far, the system message not among them.
  const std::vector<Message>& messages() const { return messages_; }
  void SetMessages(std::vector<Message> messages) { messages_ = std::move(messages); }

  /// Adds the user's turn and answers it. `settings` gives everything but the prompt. The answer
  /// joins the conversation even where it was cancelled or cut short; after an Error the
  /// conversation is as before.
  Result<Completion> Ask(std::string text, Request settings, const EventHandler& on_event);

 private:
  const Model& model_;
  Engine& engine_;
  std::string system_;
  std::vector<Message> messages_;
};

}  // namespace moxie
