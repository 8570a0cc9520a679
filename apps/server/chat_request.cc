#include "server/chat_request.h"

namespace moxie::server {
namespace {

constexpr size_t kMostTools = 128;

void ReadTools(Fields& fields, ChatRequest& chat) {
  const Json* tools = fields.Array("tools");
  if (tools == nullptr) return;
  if (tools->size() > kMostTools)
    return fields.Fail("tools", " has more than " + std::to_string(kMostTools) + " tools");
  for (const Json& tool : *tools) {
    const Json* function =
        tool.is_object() && tool.contains("function") ? &tool["function"] : nullptr;
    const bool named = function != nullptr && function->is_object() && function->contains("name") &&
                       (*function)["name"].is_string();
    if (!named) return fields.Fail("tools", " must be a list of functions, each with a name");
  }
  chat.tools = *tools;
}

void ReadToolChoice(Fields& fields, ChatRequest& chat) {
  const Json* choice = fields.Any("tool_choice");
  if (choice == nullptr) return;
  const auto fail = [&] {
    fields.Fail("tool_choice", " must be none, auto, required or one of the tools");
  };
  if (choice->is_string()) {
    chat.tool_choice = choice->get<std::string>();
    if (chat.tool_choice != "none" && chat.tool_choice != "auto" && chat.tool_choice != "required")
      return fail();
  } else {
    const Json* name = nullptr;
    if (choice->is_object() && choice->contains("function") && (*choice)["function"].is_object() &&
        (*choice)["function"].contains("name"))
      name = &(*choice)["function"]["name"];
    if (name == nullptr || !name->is_string()) return fail();
    chat.tool_choice = name->get<std::string>();
  }
  const bool needs_tools = chat.tool_choice != "none" && chat.tool_choice != "auto";
  if (needs_tools && chat.tools.empty()) fields.Fail("tool_choice", " needs tools");
}

Result<ConstraintPtr> ToolConstraint(ModelHost& host, const ChatRequest& chat) {
  const std::string tools = chat.tools.dump();
  const std::string key =
      std::string(chat.parallel_tools ? "calls " : "call ") + Json(chat.tool_choice).dump() + tools;
  return host.constraint_cache().Get(key, [&] {
    return host.constraints().ToolCalls(
        tools,
        {.format = FormatOf(host), .choice = chat.tool_choice, .parallel = chat.parallel_tools});
  });
}

}  // namespace

ChatRequest ReadChatRequest(Fields& fields) {
  ChatRequest chat;
  const Json* messages = fields.Array("messages");
  if (messages == nullptr) fields.Fail("messages", " is missing");
  if (messages == nullptr || !fields.ok()) return chat;
  chat.messages = ReadMessages(*messages, fields);
  ReadTools(fields, chat);
  ReadToolChoice(fields, chat);
  chat.parallel_tools = fields.Bool("parallel_tool_calls", true);
  chat.format = ReadConstraintRequest(fields);
  return chat;
}

bool Prepare(ModelHost& host, const ChatRequest& chat, Request& request, ApiError& error) {
  if (!host.model().has_chat_template()) {
    error = InvalidRequest("this model has no chat template; use /v1/completions", "model");
    return false;
  }
  const ChatOptions options{.tools_json = chat.has_tools() ? chat.tools.dump() : "",
                            .documents_json = ""};
  Result<std::vector<TokenId>> prompt = EncodeChat(host.model(), chat.messages, options);
  if (!prompt) {
    error = FromError(prompt.error(), "messages");
    return false;
  }
  request.prompt = std::move(*prompt);
  Result<ConstraintPtr> constraint = MakeConstraint(host, chat.format);
  std::string field = chat.format.field;
  if (chat.format.kind == ConstraintRequest::Kind::kFree && chat.has_tools()) {
    field = "tools";
    request.show_special = true;
    constraint = ToolConstraint(host, chat);
  }
  if (constraint) {
    request.constraint = *constraint;
  } else {
    error = FromError(constraint.error(), field);
  }
  return constraint.has_value();
}

}  // namespace moxie::server
