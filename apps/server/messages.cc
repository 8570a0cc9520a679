#include "server/messages.h"

#include <array>

namespace moxie::server {
namespace {

constexpr size_t kMostMessages = 4096;
constexpr std::array kRoles = {"system", "developer", "user", "assistant", "tool", "function"};

void UnpackArguments(Json& call) {
  if (!call.is_object() || !call.contains("function")) return;
  Json& function = call["function"];
  if (!function.is_object() || !function.contains("arguments")) return;
  Json& arguments = function["arguments"];
  if (!arguments.is_string()) return;
  Json parsed = Json::parse(arguments.get<std::string>(), nullptr, false);
  if (parsed.is_object()) arguments = std::move(parsed);
}

}  // namespace

std::optional<std::string> ContentText(const Json& content) {
  if (content.is_null()) return "";
  if (content.is_string()) return content.get<std::string>();
  if (!content.is_array()) return std::nullopt;
  std::string text;
  for (const Json& part : content) {
    if (part.is_string()) {
      text += part.get<std::string>();
      continue;
    }
    const bool has_text = part.is_object() && part.contains("text") && part.at("text").is_string();
    if (!has_text) return std::nullopt;
    text += part.at("text").get<std::string>();
  }
  return text;
}

std::vector<Message> ReadMessages(const Json& messages, Fields& fields) {
  std::vector<Message> all;
  if (messages.empty() || messages.size() > kMostMessages) {
    fields.Fail("messages", " must have from 1 to " + std::to_string(kMostMessages) + " messages");
    return all;
  }
  for (size_t i = 0; i < messages.size(); ++i) {
    const std::string name = "messages[" + std::to_string(i) + "]";
    Json message = messages[i];
    const bool has_role =
        message.is_object() && message.contains("role") && message["role"].is_string();
    const std::string role = has_role ? message["role"].get<std::string>() : "";
    if (std::find(kRoles.begin(), kRoles.end(), role) == kRoles.end()) {
      fields.Fail(name, ".role must be system, developer, user, assistant or tool");
      return all;
    }
    const auto text = ContentText(message.contains("content") ? message["content"] : Json());
    if (!text) {
      fields.Fail(name, ".content must be text, or a list of parts of type text");
      return all;
    }
    message.erase("role");
    message.erase("content");
    if (message.contains("tool_calls") && message["tool_calls"].is_array()) {
      for (Json& call : message["tool_calls"]) UnpackArguments(call);
    }
    // OpenAI's newer name for the same thing, which no template knows.
    all.push_back(
        {role == "developer" ? "system" : role, *text, message.empty() ? "" : message.dump()});
  }
  return all;
}

}  // namespace moxie::server
