#pragma once

#include <vector>

#include "moxie/chat.h"
#include "server/json.h"

namespace moxie::server {

/// OpenAI's "messages" as chat templates know them: content parts become one text, the arguments of
/// tool calls become objects (OpenAI sends them as text), other fields are passed on.
///
/// Errors: a message without a role, content that is no text, more than 4096 messages.
std::vector<Message> ReadMessages(const Json& messages, Fields& fields);

/// The text of "content": a string, null (empty), or a list of {"type": "text", "text"} parts.
/// Nothing for parts of other types.
std::optional<std::string> ContentText(const Json& content);

}  // namespace moxie::server
