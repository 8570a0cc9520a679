// POST /v1/completions, OpenAI's text completion.
#include <algorithm>
#include <functional>
#include <numeric>
#include <string>

#include "server/constraint_request.h"
#include "server/logprobs.h"
#include "server/openai_answer.h"
#include "server/prompts.h"
#include "server/routes.h"

namespace moxie::server {
namespace {

struct Wanted {
  AnswerForm form;
  bool echo = false;
  int64_t best_of = 1;  ///< answers of each prompt, of which the form's n likeliest are sent
  std::vector<std::vector<TokenId>> prompts;
};

/// A choice while it grows.
struct Choice {
  TextLogprobs logprobs;
  std::vector<Token> tokens;  ///< whose log-probabilities follow the prompt's
  double logprob = 0;         ///< of the answer so far
  int64_t length = 0;

  double mean_logprob() const { return length > 0 ? logprob / static_cast<double>(length) : 0; }
};

class CompletionsAnswer final : public OpenAiAnswer {
 public:
  CompletionsAnswer(ExchangePtr to, std::shared_ptr<ModelHost> host, Wanted wanted)
      : OpenAiAnswer(std::move(to), wanted.form, {"text_completion", "text_completion", "cmpl-"},
                     wanted.prompts.size() * static_cast<size_t>(wanted.best_of)),
        host_(std::move(host)),
        wanted_(std::move(wanted)),
        choices_(choices(), {TextLogprobs(host_->model().tokenizer()), {}}) {
    if (!form().stream) return;
    StartStream();
    if (!wanted_.echo) return;
    for (size_t i = 0; i < choices(); ++i) Write(i, PromptText(i), nullptr, nullptr);
  }

  void OnToken(size_t choice, const Token& token) override {
    Choice& mine = choices_[choice];
    if (!token.logprobs.empty()) {
      mine.logprob += token.logprobs.front().logprob;
      ++mine.length;
    }
    if (form().logprobs && token.id >= 0) mine.tokens.push_back(token);
    if (!form().stream) return;
    AddTokens(mine);
    Write(choice, token.text, TakeLogprobs(mine), nullptr);
  }

  void OnChoice(size_t choice, Completion completion) override {
    usage().Add(completion, choice % best_of() == 0);
    const std::string reason(NameOf(completion.finish_reason));
    if (form().stream) return Write(choice, "", nullptr, reason);
    Choice& mine = choices_[choice];
    for (size_t i = 0; i < completion.prompt_logprobs.size(); ++i)
      mine.logprobs.Add(PromptOf(choice)[i], completion.prompt_logprobs[i]);
    AddTokens(mine);
    const std::string text = (wanted_.echo ? PromptText(choice) : "") + completion.text;
    Keep(choice, ToJson(choice, text, TakeLogprobs(mine), reason));
  }

 private:
  size_t best_of() const { return static_cast<size_t>(wanted_.best_of); }

  /// Of each prompt's answers the likeliest by token, best first.
  std::vector<OrderedJson> TakeKept() override {
    std::vector<OrderedJson> all = OpenAiAnswer::TakeKept();
    if (wanted_.best_of == form().n) return all;
    std::vector<OrderedJson> best;
    for (size_t first = 0; first < all.size(); first += best_of()) {
      std::vector<size_t> order(best_of());
      std::iota(order.begin(), order.end(), first);
      std::ranges::stable_sort(order, std::greater(),
                               [&](size_t i) { return choices_[i].mean_logprob(); });
      for (size_t i = 0; i < static_cast<size_t>(form().n); ++i) {
        all[order[i]]["index"] = best.size();
        best.push_back(std::move(all[order[i]]));
      }
    }
    return best;
  }

  const std::vector<TokenId>& PromptOf(size_t choice) const {
    return wanted_.prompts[choice / best_of()];
  }

  std::string PromptText(size_t choice) const {
    return host_->model().tokenizer().Decode(PromptOf(choice), false);
  }

  static void AddTokens(Choice& choice) {
    for (const Token& token : choice.tokens) choice.logprobs.Add(token.id, token.logprobs);
    choice.tokens.clear();
  }

  OrderedJson TakeLogprobs(Choice& choice) const {
    return form().logprobs ? choice.logprobs.TakeJson() : OrderedJson(nullptr);
  }

  static OrderedJson ToJson(size_t choice, const std::string& text, OrderedJson logprobs,
                            OrderedJson reason) {
    return {{"index", choice},
            {"text", text},
            {"logprobs", std::move(logprobs)},
            {"finish_reason", std::move(reason)}};
  }

  void Write(size_t choice, const std::string& text, OrderedJson logprobs, OrderedJson reason) {
    WriteChunk(ToJson(choice, text, std::move(logprobs), std::move(reason)));
  }

  std::shared_ptr<ModelHost> host_;
  Wanted wanted_;
  std::vector<Choice> choices_;
};

}  // namespace

Continuation PrepareCompletions(Server& server, const Call& call) {
  ApiError error;
  const auto respond = [&] { return Respond(call, ErrorResponse(error)); };
  const auto asked = ReadModelCall(server, call, error);
  if (!asked) return respond();
  Fields fields(asked->body, error);
  const RequestLimits& limits = server.options().limits;
  Request request = ReadRequest(fields, call, limits);
  Wanted wanted{.form = ReadAnswerForm(fields, asked->model, limits), .prompts = {}};
  request.max_tokens = fields.Integer("max_tokens", 16, 0, 1 << 30);
  request.top_logprobs =
      static_cast<int32_t>(fields.Integer("logprobs", -1, 0, limits.top_logprobs));
  wanted.form.logprobs = request.top_logprobs >= 0;
  wanted.best_of = fields.Integer("best_of", wanted.form.n, wanted.form.n, limits.choices);
  if (wanted.best_of > wanted.form.n) {
    if (wanted.form.stream) fields.Fail("best_of", " above n does not go with stream");
    request.top_logprobs = std::max(request.top_logprobs, 0);
  }
  if (!fields.String("suffix").empty()) fields.Fail("suffix", " is not supported");
  wanted.echo = fields.Bool("echo", false);
  wanted.prompts = ReadPrompts(fields, "prompt", limits, asked->host->model().tokenizer());
  if (wanted.echo && wanted.form.logprobs) {
    if (wanted.form.stream) fields.Fail("stream", " does not go with echo and logprobs together");
    request.prompt_logprobs = request.top_logprobs;
    // Evaluation harnesses score the prompt and count on one entry after it, whatever it is.
    if (request.max_tokens == 1) request.end_at_stop_tokens = false;
  }
  const ConstraintRequest format = ReadConstraintRequest(fields);
  if (!fields.ok()) return respond();
  const Result<ConstraintPtr> constraint = MakeConstraint(*asked->host, format);
  if (!constraint) {
    error = FromError(constraint.error(), format.field);
    return respond();
  }
  request.constraint = *constraint;

  std::vector<Request> requests;
  for (const auto& prompt : wanted.prompts) {
    request.prompt = prompt;
    for (Request& choice : Repeat(request, wanted.best_of)) requests.push_back(std::move(choice));
  }
  return [&server, exchange = call.exchange, host = asked->host, requests = std::move(requests),
          wanted = std::move(wanted)] {
    Generate(server, exchange, host, requests,
             std::make_unique<CompletionsAnswer>(exchange, host, wanted));
  };
}

}  // namespace moxie::server
