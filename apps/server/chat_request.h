#pragma once

#include <optional>

#include "server/constraint_request.h"
#include "server/generation.h"
#include "server/messages.h"
#include "server/tool_calls.h"

namespace moxie::server {

/// A turn that a model is asked for, whatever the protocol: what becomes its Request.
struct ChatRequest {
  std::vector<Message> messages;
  Json tools = Json::array();        ///< in OpenAI's form
  std::string tool_choice = "auto";  ///< "auto", "none", "required" or a function's name
  bool parallel_tools = true;
  ConstraintRequest format;

  bool has_tools() const { return !tools.empty() && tool_choice != "none"; }
};

/// Reads OpenAI's messages, tools, tool_choice, parallel_tool_calls and the answer's format.
ChatRequest ReadChatRequest(Fields& fields);

/// Fills `request`'s prompt and constraint. False, with `error`, where the template refuses the
/// conversation, or a schema cannot be kept.
bool Prepare(ModelHost& host, const ChatRequest& chat, Request& request, ApiError& error);

}  // namespace moxie::server
