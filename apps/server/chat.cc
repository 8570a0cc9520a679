// POST /v1/chat/completions, OpenAI's chat.
#include <string>

#include "server/generation.h"
#include "server/logprobs.h"
#include "server/messages.h"
#include "server/routes.h"

namespace moxie::server {
namespace {

struct Wanted {
  std::string model;
  bool stream = false;
  bool usage_chunk = false;
  bool logprobs = false;
  int64_t n = 1;
};

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
    if (!wanted_.stream) return;
    StartEventStream(exchange());
    for (size_t i = 0; i < finished_.size(); ++i)
      WriteChunk(i, {{"role", "assistant"}, {"content", ""}}, nullptr);
  }

  void OnToken(size_t choice, const Token& token) override {
    if (wanted_.logprobs && token.id >= 0)
      logprobs_[choice].push_back(
          ChatLogprob(host_->model().tokenizer(), token.id, token.logprobs));
    if (wanted_.stream) WriteChunk(choice, {{"content", token.text}}, nullptr);
  }

  void OnChoice(size_t choice, Completion completion) override {
    usage_.Add(completion, choice == 0);
    const std::string reason(NameOf(completion.finish_reason));
    if (wanted_.stream) return WriteChunk(choice, OrderedJson::object(), reason);
    finished_[choice] = {{"index", choice},
                         {"message", {{"role", "assistant"}, {"content", completion.text}}},
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

  void WriteChunk(size_t choice, OrderedJson delta, OrderedJson reason) {
    OrderedJson chunk = Head("chat.completion.chunk");
    chunk["choices"] = {{{"index", choice},
                         {"delta", std::move(delta)},
                         {"logprobs", TakeLogprobs(choice)},
                         {"finish_reason", std::move(reason)}}};
    exchange().Write(ServerSentEvent(chunk));
  }

  std::shared_ptr<ModelHost> host_;
  Wanted wanted_;
  std::string id_;
  int64_t created_;
  std::vector<OrderedJson> finished_;
  std::vector<OrderedJson> logprobs_;
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
  const Json* messages = fields.Array("messages");
  if (messages == nullptr) fields.Fail("messages", " is missing");
  if (!fields.ok()) return respond();
  const std::vector<Message> conversation = ReadMessages(*messages, fields);
  if (!fields.ok()) return respond();

  Result<std::vector<TokenId>> prompt = EncodeChat(host->model(), conversation);
  if (!prompt) {
    error = FromError(prompt.error(), "messages");
    return respond();
  }
  request.prompt = std::move(*prompt);
  const int64_t n = wanted.n;
  auto answer = std::make_unique<ChatAnswer>(call, host, std::move(wanted));
  Generate(server, call, host, Repeat(request, n), std::move(answer));
}

}  // namespace moxie::server
