// POST /v1/chat/completions, OpenAI's chat.
#include <string>

#include "server/chat_request.h"
#include "server/generation.h"
#include "server/logprobs.h"
#include "server/routes.h"

namespace moxie::server {
namespace {

struct Wanted {
  std::string model;
  bool stream = false;
  bool usage_chunk = false;
  bool logprobs = false;
  bool routing = false;
  std::optional<ToolCallFormat> tools;  ///< how calls are written, where tools were given
  int64_t n = 1;
};

/// "moxie" of a chunk: which experts chose its token.
OrderedJson RoutingJson(const TokenRouting& routing) {
  return {{"experts", routing.experts}, {"weights", routing.weights}};
}

OrderedJson CallJson(const ToolCall& call) {
  return {{"id", call.id},
          {"type", "function"},
          {"function", {{"name", call.name}, {"arguments", call.arguments}}}};
}

class ChatAnswer final : public Answer {
 public:
  ChatAnswer(const Call& call, std::shared_ptr<ModelHost> host, Wanted wanted)
      : Answer(call),
        host_(std::move(host)),
        wanted_(std::move(wanted)),
        id_(RandomId("chatcmpl-")),
        created_(UnixTime()),
        finished_(static_cast<size_t>(wanted_.n)),
        logprobs_(finished_.size(), OrderedJson::array()) {
    if (wanted_.tools) parsers_.assign(finished_.size(), ToolCallParser(*wanted_.tools));
    if (!wanted_.stream) return;
    StartEventStream(exchange());
    for (size_t i = 0; i < finished_.size(); ++i)
      WriteChunk(i, {{"role", "assistant"}, {"content", ""}}, nullptr);
  }

  void OnToken(size_t choice, const Token& token) override {
    if (wanted_.logprobs && token.id >= 0)
      logprobs_[choice].push_back(
          ChatLogprob(host_->model().tokenizer(), token.id, token.logprobs));
    if (!wanted_.stream) return;
    const std::string text = wanted_.tools ? parsers_[choice].Add(token.text) : token.text;
    WriteChunk(choice, {{"content", text}}, nullptr, &token.routing);
  }

  void OnChoice(size_t choice, Completion completion) override {
    usage_.Add(completion, choice == 0);
    std::string reason(NameOf(completion.finish_reason));
    ToolCallParser::Rest rest;
    std::string text = completion.text;
    if (wanted_.tools) {
      if (!wanted_.stream) text = parsers_[choice].Add(completion.text);
      rest = parsers_[choice].Finish();
      text += rest.text;
    }
    if (!rest.calls.empty()) reason = "tool_calls";
    if (wanted_.stream) return WriteLast(choice, rest, reason);
    OrderedJson message{{"role", "assistant"}, {"content", text}};
    for (const ToolCall& call : rest.calls) message["tool_calls"].push_back(CallJson(call));
    if (text.empty() && !rest.calls.empty()) message["content"] = nullptr;
    finished_[choice] = {{"index", choice},
                         {"message", std::move(message)},
                         {"logprobs", TakeLogprobs(choice)},
                         {"finish_reason", reason}};
  }

  void OnEnd() override {
    if (!wanted_.stream) {
      OrderedJson body = Head("chat.completion");
      body["choices"] = finished_;
      body["usage"] = usage_.ToJson();
      return exchange().Send({.body = ToText(body)});
    }
    if (wanted_.usage_chunk) {
      OrderedJson chunk = Head("chat.completion.chunk");
      chunk["choices"] = OrderedJson::array();
      chunk["usage"] = usage_.ToJson();
      exchange().Write(ServerSentEvent(chunk));
    }
    exchange().Write("data: [DONE]\n\n");
    exchange().EndStream();
  }

 private:
  OrderedJson Head(const char* object) const {
    return {{"id", id_}, {"object", object}, {"created", created_}, {"model", wanted_.model}};
  }

  OrderedJson TakeLogprobs(size_t choice) {
    if (!wanted_.logprobs) return nullptr;
    return {{"content", std::exchange(logprobs_[choice], OrderedJson::array())}};
  }

  void WriteLast(size_t choice, const ToolCallParser::Rest& rest, const std::string& reason) {
    if (!rest.text.empty()) WriteChunk(choice, {{"content", rest.text}}, nullptr);
    for (size_t i = 0; i < rest.calls.size(); ++i) {
      OrderedJson call{{"index", i}};
      call.update(CallJson(rest.calls[i]));
      WriteChunk(choice, {{"tool_calls", OrderedJson::array({std::move(call)})}}, nullptr);
    }
    WriteChunk(choice, OrderedJson::object(), reason);
  }

  void WriteChunk(size_t choice, OrderedJson delta, OrderedJson reason,
                  const TokenRouting* routing = nullptr) {
    OrderedJson chunk = Head("chat.completion.chunk");
    chunk["choices"] = {{{"index", choice},
                         {"delta", std::move(delta)},
                         {"logprobs", TakeLogprobs(choice)},
                         {"finish_reason", std::move(reason)}}};
    if (wanted_.routing && routing != nullptr && !routing->experts.empty()) {
      chunk["moxie"] = RoutingJson(*routing);
      if (!std::exchange(layers_said_, true)) chunk["moxie"]["layers"] = host_->mixture_layers();
    }
    exchange().Write(ServerSentEvent(chunk));
  }

  std::shared_ptr<ModelHost> host_;
  Wanted wanted_;
  std::string id_;
  int64_t created_;
  std::vector<OrderedJson> finished_;
  std::vector<OrderedJson> logprobs_;
  std::vector<ToolCallParser> parsers_;
  bool layers_said_ = false;
  Usage usage_;
};

}  // namespace

void PostChatCompletions(Server& server, const Call& call) {
  ApiError error;
  const auto respond = [&] { call.exchange->Send(ErrorResponse(error)); };
  const std::optional<Json> body = ParseBody(call.http.body, error);
  if (!body) return respond();
  Fields fields(*body, error);
  const RequestLimits& limits = server.options().limits;
  Wanted wanted;
  wanted.model = fields.String("model", server.default_name());
  if (!fields.ok()) return respond();
  const auto host = server.FindModel(wanted.model, error);
  if (host == nullptr) return respond();

  Request request = ReadSampling(fields, limits);
  const char* limit = fields.Has("max_completion_tokens") ? "max_completion_tokens" : "max_tokens";
  request.max_tokens = fields.Integer(limit, -1, 0, 1 << 30);
  wanted.logprobs = fields.Bool("logprobs", false);
  const int64_t tops = fields.Integer("top_logprobs", 0, 0, limits.top_logprobs);
  if (wanted.logprobs) request.top_logprobs = static_cast<int32_t>(tops);
  if (!wanted.logprobs && tops > 0) fields.Fail("top_logprobs", " needs logprobs: true");
  wanted.n = fields.Integer("n", 1, 1, limits.choices);
  wanted.stream = fields.Bool("stream", false);
  if (const Json* options = fields.Object("stream_options"))
    wanted.usage_chunk = Fields(*options, error, "stream_options.").Bool("include_usage", false);
  wanted.routing = fields.Bool("routing", false);
  request.trace_routing = wanted.routing;
  const ChatRequest chat = ReadChatRequest(fields);
  if (!fields.ok() || !Prepare(*host, chat, request, error)) return respond();
  if (chat.has_tools()) wanted.tools = FormatOf(*host);
  const int64_t n = wanted.n;
  auto answer = std::make_unique<ChatAnswer>(call, host, std::move(wanted));
  Generate(server, call, host, Repeat(request, n), std::move(answer));
}

}  // namespace moxie::server
