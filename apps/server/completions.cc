// POST /v1/completions, OpenAI's text completion.
#include <algorithm>
#include <string>

#include "server/generation.h"
#include "server/logprobs.h"
#include "server/routes.h"

namespace moxie::server {
namespace {

struct Wanted {
  std::string model;
  bool stream = false;
  bool usage_chunk = false;
  bool echo = false;
  bool logprobs = false;
  int64_t n = 1;
  std::vector<std::vector<TokenId>> prompts;
};

/// A choice while it grows.
struct Choice {
  TextLogprobs logprobs;
  std::vector<Token> tokens;  ///< whose log-probabilities follow the prompt's
};

class CompletionsAnswer final : public Answer {
 public:
  CompletionsAnswer(const Call& call, std::shared_ptr<ModelHost> host, Wanted wanted)
      : Answer(call),
        host_(std::move(host)),
        wanted_(std::move(wanted)),
        id_(RandomId("cmpl-")),
        created_(UnixTime()) {
    for (size_t i = 0; i < wanted_.prompts.size() * static_cast<size_t>(wanted_.n); ++i)
      choices_.push_back({TextLogprobs(host_->model().tokenizer()), {}});
    if (!wanted_.stream) return;
    StartEventStream(exchange());
    if (!wanted_.echo) return;
    for (size_t i = 0; i < choices_.size(); ++i) WriteChunk(i, PromptText(i), nullptr, nullptr);
  }

  void OnToken(size_t choice, const Token& token) override {
    TextLogprobs& logprobs = choices_[choice].logprobs;
    if (wanted_.logprobs && token.id >= 0) choices_[choice].tokens.push_back(token);
    if (!wanted_.stream) return;
    AddTokens(choices_[choice]);
    WriteChunk(choice, token.text, wanted_.logprobs ? logprobs.TakeJson() : nullptr, nullptr);
  }

  void OnChoice(size_t choice, Completion completion) override {
    usage_.Add(completion, choice % static_cast<size_t>(wanted_.n) == 0);
    const std::string reason(NameOf(completion.finish_reason));
    if (wanted_.stream) return WriteChunk(choice, "", nullptr, reason);
    Choice& mine = choices_[choice];
    for (size_t i = 0; i < completion.prompt_logprobs.size(); ++i)
      mine.logprobs.Add(PromptOf(choice)[i], completion.prompt_logprobs[i]);
    AddTokens(mine);
    if (finished_.size() < choices_.size()) finished_.resize(choices_.size());
    finished_[choice] = {
        {"index", choice},
        {"text", (wanted_.echo ? PromptText(choice) : "") + completion.text},
        {"logprobs", wanted_.logprobs ? mine.logprobs.TakeJson() : OrderedJson(nullptr)},
        {"finish_reason", reason}};
  }

  void OnEnd() override {
    if (!wanted_.stream) {
      OrderedJson body = Head();
      body["choices"] = finished_;
      body["usage"] = usage_.ToJson();
      return exchange().Send({.body = ToText(body)});
    }
    if (wanted_.usage_chunk) {
      OrderedJson chunk = Head();
      chunk["choices"] = OrderedJson::array();
      chunk["usage"] = usage_.ToJson();
      exchange().Write(ServerSentEvent(chunk));
    }
    exchange().Write("data: [DONE]\n\n");
    exchange().EndStream();
  }

 private:
  OrderedJson Head() const {
    return {{"id", id_},
            {"object", "text_completion"},
            {"created", created_},
            {"model", wanted_.model}};
  }

  const std::vector<TokenId>& PromptOf(size_t choice) const {
    return wanted_.prompts[choice / static_cast<size_t>(wanted_.n)];
  }

  std::string PromptText(size_t choice) const {
    return host_->model().tokenizer().Decode(PromptOf(choice), false);
  }

  static void AddTokens(Choice& choice) {
    for (const Token& token : choice.tokens) choice.logprobs.Add(token.id, token.logprobs);
    choice.tokens.clear();
  }

  void WriteChunk(size_t choice, const std::string& text, OrderedJson logprobs,
                  OrderedJson reason) {
    OrderedJson chunk = Head();
    chunk["choices"] = {{{"index", choice},
                         {"text", text},
                         {"logprobs", std::move(logprobs)},
                         {"finish_reason", std::move(reason)}}};
    exchange().Write(ServerSentEvent(chunk));
  }

  std::shared_ptr<ModelHost> host_;
  Wanted wanted_;
  std::string id_;
  int64_t created_;
  std::vector<Choice> choices_;
  std::vector<OrderedJson> finished_;
  Usage usage_;
};

/// Ids are taken as they are; text is encoded with what the tokenizer adds.
bool AddPrompt(const Json& json, const Tokenizer& tokenizer, Wanted& wanted) {
  if (json.is_string()) {
    wanted.prompts.push_back(tokenizer.Encode(json.get<std::string>(), {}));
    return true;
  }
  if (!json.is_array()) return false;
  std::vector<TokenId> ids;
  for (const Json& id : json) {
    if (!id.is_number_integer()) return false;
    const double value = id.get<double>();
    // Out of the vocabulary either way; the engine's refusal names it.
    ids.push_back(value < 0 || value > 0x7fffffff ? -1 : id.get<TokenId>());
  }
  wanted.prompts.push_back(std::move(ids));
  return true;
}

void ReadPrompts(Fields& fields, const RequestLimits& limits, const Tokenizer& tokenizer,
                 Wanted& wanted) {
  const Json* prompt = fields.Any("prompt");
  if (prompt == nullptr) return fields.Fail("prompt", " is missing");
  const bool several = prompt->is_array() && !prompt->empty() &&
                       (prompt->front().is_string() || prompt->front().is_array());
  bool right = true;
  if (several && static_cast<int64_t>(prompt->size()) > limits.prompts)
    return fields.Fail("prompt", " has more than " + std::to_string(limits.prompts) + " prompts");
  if (several) {
    for (const Json& item : *prompt) right = right && AddPrompt(item, tokenizer, wanted);
  } else {
    right = AddPrompt(*prompt, tokenizer, wanted);
  }
  if (!right)
    fields.Fail("prompt",
                " must be a string, a list of token ids, or a list of strings or of such "
                "lists");
}

}  // namespace

void PostCompletions(Server& server, const Call& call) {
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
  request.max_tokens = fields.Integer("max_tokens", 16, 0, 1 << 30);
  request.top_logprobs =
      static_cast<int32_t>(fields.Integer("logprobs", -1, 0, limits.top_logprobs));
  wanted.logprobs = request.top_logprobs >= 0;
  wanted.n = fields.Integer("n", 1, 1, limits.choices);
  if (fields.Integer("best_of", wanted.n, 1, limits.choices) != wanted.n)
    fields.Fail("best_of", " is not supported unless it equals n");
  if (!fields.String("suffix").empty()) fields.Fail("suffix", " is not supported");
  wanted.echo = fields.Bool("echo", false);
  wanted.stream = fields.Bool("stream", false);
  if (const Json* options = fields.Object("stream_options"))
    wanted.usage_chunk = Fields(*options, error, "stream_options.").Bool("include_usage", false);
  ReadPrompts(fields, limits, host->model().tokenizer(), wanted);
  if (wanted.echo && wanted.logprobs) {
    if (wanted.stream) fields.Fail("stream", " does not go with echo and logprobs together");
    request.prompt_logprobs = request.top_logprobs;
    // Evaluation harnesses score the prompt and count on one entry after it, whatever it is.
    if (request.max_tokens == 1) request.end_at_stop_tokens = false;
  }
  if (!fields.ok()) return respond();

  std::vector<Request> requests;
  for (const auto& prompt : wanted.prompts) {
    request.prompt = prompt;
    for (Request& choice : Repeat(request, wanted.n)) requests.push_back(std::move(choice));
  }
  auto answer = std::make_unique<CompletionsAnswer>(call, host, std::move(wanted));
  Generate(server, call, host, std::move(requests), std::move(answer));
}

}  // namespace moxie::server
