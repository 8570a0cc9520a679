// POST /v1/messages and /v1/messages/count_tokens, Anthropic's protocol: translated to OpenAI's
// messages and tools on the way in, and to content blocks on the way out.
#include <string>

#include "server/block_answer.h"
#include "server/chat_request.h"
#include "server/model_call.h"
#include "server/routes.h"

namespace moxie::server {
namespace {

OrderedJson AnthropicError(const ApiError& error) {
  const char* type = error.status == 404   ? "not_found_error"
                     : error.status == 429 ? "rate_limit_error"
                     : error.status >= 500 ? "api_error"
                                           : "invalid_request_error";
  return {{"type", "error"}, {"error", {{"type", type}, {"message", error.message}}}};
}

HttpResponse AnthropicErrorResponse(const ApiError& error) {
  HttpResponse response = ErrorResponse(error);
  response.body = ToText(AnthropicError(error));
  return response;
}

class MessagesAnswer final : public BlockAnswer {
 public:
  MessagesAnswer(ExchangePtr to, std::string model, bool stream, int64_t prompt_tokens,
                 std::optional<ToolCallFormat> tools)
      : BlockAnswer(std::move(to), tools),
        model_(std::move(model)),
        stream_(stream),
        id_(RandomId("msg_")) {
    if (!stream_) return;
    StartEventStream(exchange());
    OrderedJson message = Head();
    message["content"] = OrderedJson::array();
    message["stop_reason"] = nullptr;
    message["stop_sequence"] = nullptr;
    message["usage"] = {{"input_tokens", prompt_tokens}, {"output_tokens", 0}};
    Write({{"type", "message_start"}, {"message", std::move(message)}});
  }

  void OnError(const ApiError& error) override {
    if (!exchange().streaming()) return exchange().Send(AnthropicErrorResponse(error));
    exchange().Write(ServerSentEvent(AnthropicError(error), "error"));
    exchange().EndStream();
  }

 private:
  void BeginText() override { BeginBlock({{"type", "text"}, {"text", ""}}); }
  void AddText(const std::string& text) override {
    WriteDelta({{"type", "text_delta"}, {"text", text}});
  }
  void EndText(const std::string& whole) override {
    content_.back()["text"] = whole;
    EndBlock();
  }
  void BeginCall(const ToolCall& call) override {
    BeginBlock({{"type", "tool_use"},
                {"id", call.id},
                {"name", call.name},
                {"input", OrderedJson::object()}});
  }
  void AddArguments(const std::string& arguments) override {
    WriteDelta({{"type", "input_json_delta"}, {"partial_json", arguments}});
  }
  void EndCall(const ToolCall& whole) override {
    const OrderedJson input = OrderedJson::parse(whole.arguments, nullptr, false);
    if (input.is_object()) content_.back()["input"] = input;  // Else it was cut short.
    EndBlock();
  }

  void Complete(const Completion& completion, bool has_calls) override {
    const char* reason = completion.finish_reason == FinishReason::kLength ? "max_tokens"
                         : has_calls                                       ? "tool_use"
                                                                           : "end_turn";
    const OrderedJson usage{{"input_tokens", completion.prompt_tokens - completion.reused_tokens},
                            {"cache_read_input_tokens", completion.reused_tokens},
                            {"output_tokens", completion.ids.size()}};
    if (stream_) {
      Write({{"type", "message_delta"},
             {"delta", {{"stop_reason", reason}, {"stop_sequence", nullptr}}},
             {"usage", usage}});
      Write({{"type", "message_stop"}});
      return exchange().EndStream();
    }
    OrderedJson body = Head();
    body["content"] = content_;
    body["stop_reason"] = reason;
    body["stop_sequence"] = nullptr;
    body["usage"] = usage;
    exchange().Send({.body = ToText(body)});
  }

  OrderedJson Head() const {
    return {{"id", id_}, {"type", "message"}, {"role", "assistant"}, {"model", model_}};
  }

  void Write(const OrderedJson& event) {
    if (stream_) exchange().Write(ServerSentEvent(event, event["type"].get<std::string>()));
  }
  void BeginBlock(OrderedJson block) {
    Write({{"type", "content_block_start"}, {"index", content_.size()}, {"content_block", block}});
    content_.push_back(std::move(block));
  }
  void WriteDelta(OrderedJson delta) {
    Write({{"type", "content_block_delta"},
           {"index", content_.size() - 1},
           {"delta", std::move(delta)}});
  }
  void EndBlock() { Write({{"type", "content_block_stop"}, {"index", content_.size() - 1}}); }

  std::string model_;
  bool stream_;
  std::string id_;
  OrderedJson content_ = OrderedJson::array();
};

/// One of Anthropic's messages as those of OpenAI's that say the same; results of tools come
/// before what the user says beside them.
void Translate(const Json& message, Json& out) {
  const bool has_blocks =
      message.is_object() && message.contains("content") && message["content"].is_array();
  if (!has_blocks) return out.push_back(message);
  Json spoken{{"role", message.value("role", Json())}, {"content", Json::array()}};
  for (const Json& block : message["content"]) {
    const std::string type =
        block.is_object() && block.contains("type") && block["type"].is_string()
            ? block["type"].get<std::string>()
            : "";
    if (type == "tool_result") {
      out.push_back({{"role", "tool"},
                     {"tool_call_id", block.value("tool_use_id", Json())},
                     {"content", block.value("content", Json())}});
    } else if (type == "tool_use") {
      spoken["tool_calls"].push_back(
          {{"id", block.value("id", Json())},
           {"type", "function"},
           {"function",
            {{"name", block.value("name", Json())}, {"arguments", block.value("input", Json())}}}});
    } else {
      spoken["content"].push_back(block);
    }
  }
  if (!spoken["content"].empty() || spoken.contains("tool_calls")) out.push_back(std::move(spoken));
}

Json ToolChoice(const Json& choice) {
  std::string type = choice.is_object() && choice.contains("type") && choice["type"].is_string()
                         ? choice["type"].get<std::string>()
                         : "";
  if (type == "any") return "required";
  if (type != "tool") return type;
  return {{"type", "function"}, {"function", {{"name", choice.value("name", Json())}}}};
}

/// The body in OpenAI's terms.
Json ToOpenAi(const Json& body) {
  Json out = body;
  Json messages = Json::array();
  if (body.contains("system"))
    messages.push_back({{"role", "system"}, {"content", body["system"]}});
  if (body.contains("messages") && body["messages"].is_array()) {
    for (const Json& message : body["messages"]) Translate(message, messages);
    out["messages"] = std::move(messages);
  }
  if (body.contains("tools") && body["tools"].is_array()) {
    out["tools"] = Json::array();
    for (const Json& tool : body["tools"]) {
      const bool is_object = tool.is_object();
      out["tools"].push_back(
          {{"type", "function"},
           {"function",
            {{"name", is_object ? tool.value("name", Json()) : Json()},
             {"description", is_object ? tool.value("description", Json("")) : Json()},
             {"parameters", is_object ? tool.value("input_schema", Json::object()) : Json()}}}});
    }
  }
  if (body.contains("tool_choice")) {
    const Json& choice = body["tool_choice"];
    out["tool_choice"] = ToolChoice(choice);
    out["parallel_tool_calls"] =
        !(choice.is_object() && choice.value("disable_parallel_tool_use", Json()) == true);
  }
  if (body.contains("metadata") && body["metadata"].is_object() &&
      body["metadata"].contains("user_id"))
    out["user"] = body["metadata"]["user_id"];
  return out;
}

/// A call read up to the prompt.
struct Prepared {
  ModelCall asked;
  Request request;
  std::optional<ToolCallFormat> tools;
};

std::optional<Prepared> Prepare(const Server& server, const Call& call, ApiError& error) {
  const std::optional<Json> given = ParseBody(call.http.body, error);
  auto asked = given ? ReadModelCall(server, ToOpenAi(*given), error) : std::nullopt;
  if (!asked) return std::nullopt;
  Fields fields(asked->body, error);
  Request request = ReadRequest(fields, call, server.options().limits);
  const ChatRequest chat = ReadChatRequest(fields);
  if (!fields.ok() || !Prepare(*asked->host, chat, request, error)) return std::nullopt;
  std::optional<ToolCallFormat> tools;
  if (chat.has_tools()) tools = FormatOf(*asked->host);
  return Prepared{std::move(*asked), std::move(request), tools};
}

}  // namespace

Continuation PrepareMessages(Server& server, const Call& call) {
  ApiError error;
  std::optional<Prepared> prepared = Prepare(server, call, error);
  if (!prepared) return Respond(call, AnthropicErrorResponse(error));
  auto& [asked, request, tools] = *prepared;
  Fields fields(asked.body, error);
  if (!fields.Has("max_tokens")) fields.Fail("max_tokens", " is missing");
  request.max_tokens = fields.Integer("max_tokens", 0, 1, 1 << 30);
  const bool stream = fields.Bool("stream", false);
  if (!fields.ok()) return Respond(call, AnthropicErrorResponse(error));
  return [&server, exchange = call.exchange, host = asked.host, model = asked.model,
          request = std::move(request), stream, tools = tools] {
    auto answer = std::make_unique<MessagesAnswer>(exchange, model, stream,
                                                   std::ssize(request.prompt), tools);
    Generate(server, exchange, host, {request}, std::move(answer));
  };
}

Continuation PrepareCountTokens(Server& server, const Call& call) {
  ApiError error;
  const std::optional<Prepared> prepared = Prepare(server, call, error);
  if (!prepared) return Respond(call, AnthropicErrorResponse(error));
  return Respond(call, {.body = ToText({{"input_tokens", prepared->request.prompt.size()}})});
}

}  // namespace moxie::server
