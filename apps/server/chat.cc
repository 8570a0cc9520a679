// POST /v1/chat/completions, OpenAI's chat.
#include <string>

#include "server/chat_request.h"
#include "server/logprobs.h"
#include "server/openai_answer.h"
#include "server/routes.h"

namespace moxie::server {
namespace {

/// "moxie" of a chunk: which experts chose its token.
OrderedJson RoutingJson(const TokenRouting& routing) {
  return {{"experts", routing.experts}, {"weights", routing.weights}};
}

OrderedJson CallJson(const ToolCall& call) {
  return {{"id", call.id},
          {"type", "function"},
          {"function", {{"name", call.name}, {"arguments", call.arguments}}}};
}

class ChatAnswer final : public OpenAiAnswer {
 public:
  /// `tools` is how calls are written, where tools were given.
  ChatAnswer(const Call& call, const ModelCall& asked, const AnswerForm& form,
             std::optional<ToolCallFormat> tools)
      : OpenAiAnswer(call, form, {"chat.completion", "chat.completion.chunk", "chatcmpl-"},
                     static_cast<size_t>(form.n)),
        host_(asked.host),
        logprobs_(choices(), OrderedJson::array()),
        calls_begun_(choices()) {
    if (tools) parsers_.assign(choices(), ToolCallParser(*tools));
    if (!form.stream) return;
    StartStream();
    for (size_t i = 0; i < choices(); ++i)
      Write(i, {{"role", "assistant"}, {"content", ""}}, nullptr);
  }

  void OnToken(size_t choice, const Token& token) override {
    if (form().logprobs && token.id >= 0)
      logprobs_[choice].push_back(
          ChatLogprob(host_->model().tokenizer(), token.id, token.logprobs));
    if (!form().stream) return;
    AnswerPiece piece;
    if (has_tools()) {
      piece = parsers_[choice].Add(token.text);
    } else {
      piece.text = token.text;
    }
    OrderedJson delta{{"content", piece.text}};
    if (!piece.calls.empty()) delta["tool_calls"] = CallParts(choice, piece.calls);
    Write(choice, std::move(delta), nullptr, &token.routing);
  }

  void OnChoice(size_t choice, Completion completion) override {
    usage().Add(completion, choice == 0);
    std::string text = form().stream ? "" : completion.text;
    std::vector<ToolCall> calls;
    if (has_tools()) {
      text = parsers_[choice].Add(text).text + parsers_[choice].Finish();
      calls = parsers_[choice].calls();
    }
    std::string reason(NameOf(completion.finish_reason));
    if (!calls.empty() && completion.finish_reason == FinishReason::kStop) reason = "tool_calls";
    if (form().stream) {
      if (!text.empty()) Write(choice, {{"content", text}}, nullptr);
      return Write(choice, OrderedJson::object(), reason);
    }
    OrderedJson message{{"role", "assistant"}, {"content", text}};
    for (const ToolCall& call : calls) message["tool_calls"].push_back(CallJson(call));
    if (text.empty() && !calls.empty()) message["content"] = nullptr;
    Keep(choice, {{"index", choice},
                  {"message", std::move(message)},
                  {"logprobs", TakeLogprobs(choice)},
                  {"finish_reason", reason}});
  }

 private:
  bool has_tools() const { return !parsers_.empty(); }

  OrderedJson TakeLogprobs(size_t choice) {
    if (!form().logprobs) return nullptr;
    return {{"content", std::exchange(logprobs_[choice], OrderedJson::array())}};
  }

  /// "tool_calls" of a chunk: a call's id and name come once, with its first part.
  OrderedJson CallParts(size_t choice, const std::vector<AnswerPiece::CallPart>& parts) {
    OrderedJson all = OrderedJson::array();
    for (const AnswerPiece::CallPart& part : parts) {
      OrderedJson json{{"index", part.index}};
      if (part.index == calls_begun_[choice]) {
        ++calls_begun_[choice];
        json.update(CallJson(parsers_[choice].calls()[part.index]));
      }
      json["function"]["arguments"] = part.arguments;
      all.push_back(std::move(json));
    }
    return all;
  }

  void Write(size_t choice, OrderedJson delta, OrderedJson reason,
             const TokenRouting* routing = nullptr) {
    OrderedJson extra;
    if (routing != nullptr && !routing->experts.empty()) {
      extra["moxie"] = RoutingJson(*routing);
      if (!std::exchange(layers_said_, true)) extra["moxie"]["layers"] = host_->mixture_layers();
    }
    WriteChunk({{"index", choice},
                {"delta", std::move(delta)},
                {"logprobs", TakeLogprobs(choice)},
                {"finish_reason", std::move(reason)}},
               extra);
  }

  std::shared_ptr<ModelHost> host_;
  std::vector<OrderedJson> logprobs_;
  std::vector<ToolCallParser> parsers_;
  std::vector<size_t> calls_begun_;
  bool layers_said_ = false;
};

}  // namespace

void PostChatCompletions(Server& server, const Call& call) {
  ApiError error;
  const auto respond = [&] { call.exchange->Send(ErrorResponse(error)); };
  const auto asked = ReadModelCall(server, call, error);
  if (!asked) return respond();
  Fields fields(asked->body, error);
  const RequestLimits& limits = server.options().limits;
  Request request = ReadRequest(fields, call, limits);
  const char* limit = fields.Has("max_completion_tokens") ? "max_completion_tokens" : "max_tokens";
  request.max_tokens = fields.Integer(limit, -1, 0, 1 << 30);
  AnswerForm form = ReadAnswerForm(fields, asked->model, limits);
  form.logprobs = fields.Bool("logprobs", false);
  const int64_t tops = fields.Integer("top_logprobs", 0, 0, limits.top_logprobs);
  if (form.logprobs) request.top_logprobs = static_cast<int32_t>(tops);
  if (!form.logprobs && tops > 0) fields.Fail("top_logprobs", " needs logprobs: true");
  request.trace_routing = fields.Bool("routing", false);
  const ChatRequest chat = ReadChatRequest(fields);
  if (!fields.ok() || !Prepare(*asked->host, chat, request, error)) return respond();
  std::optional<ToolCallFormat> tools;
  if (chat.has_tools()) tools = FormatOf(*asked->host);
  Generate(server, call, asked->host, Repeat(request, form.n),
           std::make_unique<ChatAnswer>(call, *asked, form, tools));
}

}  // namespace moxie::server
