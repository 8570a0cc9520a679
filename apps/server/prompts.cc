#include "server/prompts.h"

#include <string>

namespace moxie::server {
namespace {

bool AddPrompt(const Json& json, const Tokenizer& tokenizer,
               std::vector<std::vector<TokenId>>& prompts) {
  if (json.is_string()) {
    prompts.push_back(tokenizer.Encode(json.get<std::string>(), {}));
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
  prompts.push_back(std::move(ids));
  return true;
}

}  // namespace

std::vector<std::vector<TokenId>> ReadPrompts(Fields& fields, const char* name,
                                              const RequestLimits& limits,
                                              const Tokenizer& tokenizer) {
  std::vector<std::vector<TokenId>> prompts;
  const Json* prompt = fields.Any(name);
  if (prompt == nullptr) {
    fields.Fail(name, " is missing");
    return prompts;
  }
  const bool several = prompt->is_array() && !prompt->empty() &&
                       (prompt->front().is_string() || prompt->front().is_array());
  bool right = true;
  if (several && static_cast<int64_t>(prompt->size()) > limits.prompts) {
    fields.Fail(name, " has more than " + std::to_string(limits.prompts) + " prompts");
  } else if (several) {
    for (const Json& item : *prompt) right = right && AddPrompt(item, tokenizer, prompts);
  } else {
    right = AddPrompt(*prompt, tokenizer, prompts);
  }
  if (!right)
    fields.Fail(name,
                " must be a string, a list of token ids, or a list of strings or of such lists");
  return prompts;
}

}  // namespace moxie::server
