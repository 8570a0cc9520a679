// POST /v1/responses, OpenAI's newer protocol: translated to its older messages and tools on the
// way in, and to items on the way out. Nothing is stored between requests.
#include <string>

#include "server/block_answer.h"
#include "server/chat_request.h"
#include "server/model_call.h"
#include "server/routes.h"

namespace moxie::server {
namespace {

class ResponsesAnswer final : public BlockAnswer {
 public:
  /// `told` is what the answer repeats of the request.
  ResponsesAnswer(ExchangePtr to, const std::string& model, bool stream, const OrderedJson& told,
                  std::optional<ToolCallFormat> tools)
      : BlockAnswer(std::move(to), tools), stream_(stream) {
    response_ = {{"id", RandomId("resp_")},
                 {"object", "response"},
                 {"created_at", UnixTime()},
                 {"status", "in_progress"},
                 {"error", nullptr},
                 {"incomplete_details", nullptr},
                 {"model", model},
                 {"output", OrderedJson::array()},
                 {"usage", nullptr},
                 {"previous_response_id", nullptr},
                 {"store", false}};
    response_.update(told);
    if (!stream_) return;
    StartEventStream(exchange());
    Write("response.created", {{"response", response_}});
    Write("response.in_progress", {{"response", response_}});
  }

  void OnError(const ApiError& error) override {
    if (!exchange().streaming()) return Answer::OnError(error);
    response_["status"] = "failed";
    response_["error"] = {{"code", "server_error"}, {"message", error.message}};
    Write("response.failed", {{"response", response_}});
    exchange().EndStream();
  }

 private:
  void BeginText() override {
    BeginItem({{"id", RandomId("msg_")},
               {"type", "message"},
               {"status", "in_progress"},
               {"role", "assistant"},
               {"content", OrderedJson::array()}});
    WriteText("response.content_part.added", {{"part", TextPart("")}});
  }
  void AddText(const std::string& text) override {
    WriteText("response.output_text.delta", {{"delta", text}, {"logprobs", OrderedJson::array()}});
  }
  void EndText(const std::string& whole) override {
    WriteText("response.output_text.done", {{"text", whole}, {"logprobs", OrderedJson::array()}});
    WriteText("response.content_part.done", {{"part", TextPart(whole)}});
    item()["content"].push_back(TextPart(whole));
    EndItem();
  }
  void BeginCall(const ToolCall& call) override {
    BeginItem({{"id", RandomId("fc_")},
               {"type", "function_call"},
               {"status", "in_progress"},
               {"call_id", call.id},
               {"name", call.name},
               {"arguments", ""}});
  }
  void AddArguments(const std::string& arguments) override {
    WriteItem("response.function_call_arguments.delta", {{"delta", arguments}});
  }
  void EndCall(const ToolCall& whole) override {
    item()["arguments"] = whole.arguments;
    WriteItem("response.function_call_arguments.done",
              {{"name", whole.name}, {"arguments", whole.arguments}});
    EndItem();
  }

  void Complete(const Completion& completion, bool /*has_calls*/) override {
    const bool cut = completion.finish_reason == FinishReason::kLength;
    response_["status"] = cut ? "incomplete" : "completed";
    if (cut) {
      response_["incomplete_details"] = {{"reason", "max_output_tokens"}};
      if (!response_["output"].empty()) item()["status"] = "incomplete";
    }
    const auto generated = std::ssize(completion.ids);
    response_["usage"] = {{"input_tokens", completion.prompt_tokens},
                          {"input_tokens_details", {{"cached_tokens", completion.reused_tokens}}},
                          {"output_tokens", generated},
                          {"output_tokens_details", {{"reasoning_tokens", 0}}},
                          {"total_tokens", completion.prompt_tokens + generated}};
    if (!stream_) return exchange().Send({.body = ToText(response_)});
    Write(cut ? "response.incomplete" : "response.completed", {{"response", response_}});
    exchange().EndStream();
  }

  static OrderedJson TextPart(const std::string& text) {
    return {{"type", "output_text"},
            {"text", text},
            {"annotations", OrderedJson::array()},
            {"logprobs", OrderedJson::array()}};
  }

  OrderedJson& item() { return response_["output"].back(); }

  void BeginItem(OrderedJson item) {
    response_["output"].push_back(std::move(item));
    WriteAt("response.output_item.added");
  }
  void EndItem() {
    item()["status"] = "completed";
    WriteAt("response.output_item.done");
  }
  void WriteAt(const char* event) {
    Write(event, {{"output_index", response_["output"].size() - 1}, {"item", item()}});
  }
  void WriteItem(const char* event, const OrderedJson& fields) {
    OrderedJson all{{"item_id", item()["id"]}, {"output_index", response_["output"].size() - 1}};
    all.update(fields);
    Write(event, all);
  }
  void WriteText(const char* event, OrderedJson fields) {
    fields["content_index"] = 0;
    WriteItem(event, fields);
  }
  void Write(const char* event, const OrderedJson& fields) {
    if (!stream_) return;
    OrderedJson data{{"type", event}, {"sequence_number", written_++}};
    data.update(fields);
    exchange().Write(ServerSentEvent(data, event));
  }

  bool stream_;
  int64_t written_ = 0;
  OrderedJson response_;
};

/// A function as the older protocol nests it.
Json Nested(const Json& tool) {
  Json function = tool;
  function.erase("type");
  return {{"type", "function"}, {"function", std::move(function)}};
}

/// An item of "input" as a message of the older protocol.
Json Message(const Json& item, ApiError& error) {
  Fields fields(item, error, "input[].");
  const std::string type = fields.String("type", "message");
  if (type == "function_call")
    return {{"role", "assistant"},
            {"tool_calls", Json::array({{{"id", fields.String("call_id")},
                                         {"type", "function"},
                                         {"function",
                                          {{"name", fields.String("name")},
                                           {"arguments", fields.String("arguments")}}}}})}};
  if (type == "function_call_output")
    return {{"role", "tool"},
            {"tool_call_id", fields.String("call_id")},
            {"content", item.value("output", Json())}};
  if (type != "message")
    fields.Fail("type", " must be message, function_call or function_call_output");
  return {{"role", item.value("role", Json())}, {"content", item.value("content", Json())}};
}

Json Messages(const Json& body, ApiError& error) {
  Json messages = Json::array();
  if (body.contains("instructions") && !body["instructions"].is_null())
    messages.push_back({{"role", "system"}, {"content", body["instructions"]}});
  const Json input = body.value("input", Json());
  if (input.is_string()) {
    messages.push_back({{"role", "user"}, {"content", input}});
  } else if (input.is_array()) {
    for (const Json& item : input) {
      if (!item.is_object()) error = InvalidRequest("input must be a list of objects", "input");
      if (error.status != 0) break;
      messages.push_back(Message(item, error));
    }
  } else {
    error = InvalidRequest("input must be a string or a list of items", "input");
  }
  return messages;
}

/// The body in the older protocol's terms.
Json ToChat(const Json& body, ApiError& error) {
  Json out = body;
  out["messages"] = Messages(body, error);
  Fields fields(body, error);
  if (fields.Has("previous_response_id"))
    fields.Fail("previous_response_id",
                " is not supported: nothing is stored; send all of the input");
  if (fields.Bool("background", false)) fields.Fail("background", " is not supported");
  if (const Json* tools = fields.Array("tools")) {
    out["tools"] = Json::array();
    for (const Json& tool : *tools) {
      if (!tool.is_object() || tool.value("type", Json()) != "function") {
        fields.Fail("tools", " must be functions, which the client calls");
        break;
      }
      out["tools"].push_back(Nested(tool));
    }
  }
  if (body.contains("tool_choice") && body["tool_choice"].is_object())
    out["tool_choice"] = Nested(body["tool_choice"]);
  const Json* text = fields.Object("text");
  if (text != nullptr && text->contains("format") && (*text)["format"].is_object()) {
    Json& format = out["response_format"];
    format = (*text)["format"];
    if (format.value("type", Json()) == "json_schema")
      format = {{"type", "json_schema"}, {"json_schema", (*text)["format"]}};
  }
  return out;
}

/// What the answer repeats of the request.
OrderedJson Told(const Json& body, const Request& request, const ChatRequest& chat) {
  const auto given = [&](const char* name, const OrderedJson& absent) {
    return body.contains(name) && !body[name].is_null() ? OrderedJson(body[name]) : absent;
  };
  return {{"instructions", given("instructions", nullptr)},
          {"max_output_tokens", given("max_output_tokens", nullptr)},
          {"metadata", given("metadata", OrderedJson::object())},
          {"parallel_tool_calls", chat.parallel_tools},
          {"temperature", given("temperature", request.sampling.temperature)},
          {"text", given("text", {{"format", {{"type", "text"}}}})},
          {"tool_choice", given("tool_choice", "auto")},
          {"tools", given("tools", OrderedJson::array())},
          {"top_p", given("top_p", request.sampling.top_p)},
          {"truncation", "disabled"}};
}

}  // namespace

Continuation PrepareResponses(Server& server, const Call& call) {
  ApiError error;
  const auto respond = [&] { return Respond(call, ErrorResponse(error)); };
  const std::optional<Json> body = ParseBody(call.http.body, error);
  if (!body) return respond();
  Json chat_body = ToChat(*body, error);
  if (error.status != 0) return respond();
  const auto asked = ReadModelCall(server, std::move(chat_body), error);
  if (!asked) return respond();
  Fields fields(asked->body, error);
  Request request = ReadRequest(fields, call, server.options().limits);
  request.max_tokens = fields.Integer("max_output_tokens", -1, 0, 1 << 30);
  const bool stream = fields.Bool("stream", false);
  const ChatRequest chat = ReadChatRequest(fields);
  if (!fields.ok() || !Prepare(*asked->host, chat, request, error)) return respond();
  std::optional<ToolCallFormat> tools;
  if (chat.has_tools()) tools = FormatOf(*asked->host);
  OrderedJson told = Told(*body, request, chat);
  return [&server, exchange = call.exchange, host = asked->host, model = asked->model,
          told = std::move(told), request = std::move(request), stream, tools] {
    Generate(server, exchange, host, {request},
             std::make_unique<ResponsesAnswer>(exchange, model, stream, told, tools));
  };
}

}  // namespace moxie::server
