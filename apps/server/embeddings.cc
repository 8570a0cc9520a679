// POST /v1/embeddings: the prompts' pooled hidden states, of length 1.
#include <openssl/evp.h>

#include <bit>
#include <cmath>
#include <string>

#include "server/generation.h"
#include "server/model_call.h"
#include "server/prompts.h"
#include "server/routes.h"

namespace moxie::server {
namespace {

/// The floats' bytes, little-endian, as OpenAI's client reads them.
std::string Base64(const std::vector<float>& vector) {
  static_assert(std::endian::native == std::endian::little);
  const auto bytes = static_cast<int>(vector.size() * sizeof(float));
  // EVP_EncodeBlock ends what it writes with a zero.
  std::string text(static_cast<size_t>((bytes + 2) / 3 * 4 + 1), '\0');
  const int length = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()),
                                     reinterpret_cast<const unsigned char*>(vector.data()), bytes);
  text.resize(static_cast<size_t>(length));
  return text;
}

void Normalize(std::vector<float>& vector) {
  double squares = 0;
  for (const float value : vector) squares += double{value} * double{value};
  const double length = std::sqrt(squares);
  if (length == 0) return;
  for (float& value : vector) value = static_cast<float>(double{value} / length);
}

class EmbeddingsAnswer final : public Answer {
 public:
  EmbeddingsAnswer(ExchangePtr to, std::string model, bool base64, size_t prompts)
      : Answer(std::move(to)), model_(std::move(model)), base64_(base64), data_(prompts) {}

  void OnToken(size_t /*choice*/, const Token& /*token*/) override {}
  void OnChoice(size_t choice, Completion completion) override {
    prompt_tokens_ += completion.prompt_tokens;
    Normalize(completion.embedding);
    data_[choice] = {{"object", "embedding"}, {"index", choice}};
    if (base64_) {
      data_[choice]["embedding"] = Base64(completion.embedding);
    } else {
      data_[choice]["embedding"] = completion.embedding;
    }
  }
  void OnEnd() override {
    exchange().Send(
        {.body = ToText(
             {{"object", "list"},
              {"data", data_},
              {"model", model_},
              {"usage", {{"prompt_tokens", prompt_tokens_}, {"total_tokens", prompt_tokens_}}}})});
  }

 private:
  std::string model_;
  bool base64_;
  int64_t prompt_tokens_ = 0;
  std::vector<OrderedJson> data_;
};

}  // namespace

Continuation PrepareEmbeddings(Server& server, const Call& call) {
  ApiError error;
  const auto respond = [&] { return Respond(call, ErrorResponse(error)); };
  const auto asked = ReadModelCall(server, call, error);
  if (!asked) return respond();
  Fields fields(asked->body, error);
  Request request = ReadRequest(fields, call, server.options().limits);
  request.max_tokens = 0;
  const std::string pooling = fields.String("pooling", "mean");
  if (pooling != "mean" && pooling != "last") fields.Fail("pooling", " must be mean or last");
  request.pooling = pooling == "last" ? Pooling::kLast : Pooling::kMean;
  const std::string encoding = fields.String("encoding_format", "float");
  if (encoding != "float" && encoding != "base64")
    fields.Fail("encoding_format", " must be float or base64");
  const int64_t dim = asked->host->description().dim;
  if (fields.Integer("dimensions", dim, 1, 1 << 30) != dim)
    fields.Fail("dimensions", " must be the model's, " + std::to_string(dim));
  const auto prompts =
      ReadPrompts(fields, "input", server.options().limits, asked->host->model().tokenizer());
  if (!fields.ok()) return respond();
  std::vector<Request> requests;
  for (const auto& prompt : prompts) {
    request.prompt = prompt;
    requests.push_back(request);
  }
  return [&server, exchange = call.exchange, host = asked->host, model = asked->model,
          requests = std::move(requests), base64 = encoding == "base64"] {
    auto answer = std::make_unique<EmbeddingsAnswer>(exchange, model, base64, requests.size());
    Generate(server, exchange, host, requests, std::move(answer));
  };
}

}  // namespace moxie::server
