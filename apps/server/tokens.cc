// POST /tokenize and /detokenize, GET /tokenizer_info: what a client without the tokenizer needs.
#include <limits>

#include "server/model_call.h"
#include "server/routes.h"

namespace moxie::server {
Continuation PrepareTokenize(Server& server, const Call& call) {
  ApiError error;
  const auto asked = ReadModelCall(server, call, error);
  if (!asked) return Respond(call, ErrorResponse(error));
  Fields fields(asked->body, error);
  // "prompt" as vLLM's, "content" as llama.cpp's server calls it.
  const char* name = fields.Has("content") ? "content" : "prompt";
  if (!fields.Has(name)) fields.Fail("prompt", " is missing");
  const std::string text = fields.String(name);
  const EncodeOptions options{.add_special = fields.Bool("add_special_tokens", true),
                              .parse_special = fields.Bool("parse_special", true)};
  if (!fields.ok()) return Respond(call, ErrorResponse(error));
  const std::vector<TokenId> ids = asked->host->model().tokenizer().Encode(text, options);
  return Respond(call, {.body = ToText({{"count", ids.size()},
                                        {"max_model_len", asked->host->model().context()},
                                        {"tokens", ids}})});
}

Continuation PrepareDetokenize(Server& server, const Call& call) {
  ApiError error;
  const auto asked = ReadModelCall(server, call, error);
  if (!asked) return Respond(call, ErrorResponse(error));
  Fields fields(asked->body, error);
  const Json* tokens = fields.Array("tokens");
  if (tokens == nullptr) fields.Fail("tokens", " is missing");
  std::vector<TokenId> ids;
  for (const Json& token : tokens != nullptr ? *tokens : Json::array()) {
    const double id = token.is_number_integer() ? token.get<double>() : -1;
    if (id < 0 || id > std::numeric_limits<TokenId>::max()) {
      fields.Fail("tokens", " must be a list of token ids");
      break;
    }
    ids.push_back(static_cast<TokenId>(id));
  }
  if (!fields.ok()) return Respond(call, ErrorResponse(error));
  const std::string text = asked->host->model().tokenizer().Decode(ids, false);
  return Respond(call, {.body = ToText({{"prompt", text}, {"content", text}})});
}

void GetTokenizerInfo(Server& server, const Call& call) {
  const ModelHost& host = *server.models().at(server.default_name());
  const Tokenizer& tokenizer = host.model().tokenizer();
  const auto piece = [&](std::optional<TokenId> id) {
    return id ? OrderedJson(tokenizer.Piece(*id)) : OrderedJson(nullptr);
  };
  const std::string& source = host.description().chat_template;
  call.exchange->Send({.body = ToText({{"tokenizer_class", host.description().tokenizer},
                                       {"vocab_size", tokenizer.vocab_size()},
                                       {"bos_token", piece(tokenizer.bos())},
                                       {"eos_token", piece(tokenizer.eos())},
                                       {"add_bos_token", tokenizer.adds_bos()},
                                       {"chat_template", source.empty() ? OrderedJson(nullptr)
                                                                        : OrderedJson(source)}})});
}

}  // namespace moxie::server
