#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "convert/folder.h"
#include "convert/gguf_metadata.h"
#include "convert/gguf_vocabulary.h"
#include "engine/model_parts.h"
#include "formats/json.h"
#include "model/names.h"
#include "moxie/tokenizer.h"
#include "tokenizer/json_fields.h"
#include "tokenizer/tokenizer.h"

namespace moxie {
namespace {

using nlohmann::json;

struct Named {
  std::string_view key;
  const char* member;  ///< of tokenizer_config.json
};
constexpr Named kOthers[] = {{"padding_token_id", "pad_token"},
                             {"unknown_token_id", "unk_token"},
                             {"mask_token_id", "mask_token"}};

void AddArrays(GgufVocabulary&& vocabulary, GgufMetadata* metadata) {
  auto& values = metadata->values;
  const bool scored = vocabulary.model != "gpt2";
  values["tokenizer.ggml.model"] = vocabulary.model;
  values["tokenizer.ggml.pre"] = scored ? std::string("default") : vocabulary.pre;
  values["tokenizer.ggml.tokens"] = GgufArray(std::move(vocabulary.tokens));
  values["tokenizer.ggml.token_type"] = GgufArray(std::move(vocabulary.types));
  if (!scored) {
    values["tokenizer.ggml.merges"] = GgufArray(std::move(vocabulary.merges));
    return;
  }
  values["tokenizer.ggml.scores"] = GgufArray(std::move(vocabulary.scores));
  values["tokenizer.ggml.add_space_prefix"] = vocabulary.add_space_prefix;
  values["tokenizer.ggml.remove_extra_whitespaces"] = vocabulary.remove_extra_whitespaces;
  if (!vocabulary.chars_map.empty())
    values["tokenizer.ggml.precompiled_charsmap"] = GgufArray(std::move(vocabulary.chars_map));
}

/// BOS, EOS, what else ends an answer, and what is put around a text.
Result<void> AddEnds(const ModelFiles& files, const Tokenizer& tokenizer, GgufMetadata* metadata) {
  auto& values = metadata->values;
  const auto set = [&values](std::string_view name, TokenId id) {
    values.insert_or_assign("tokenizer.ggml." + std::string(name), static_cast<uint32_t>(id));
  };
  if (tokenizer.bos()) set("bos_token_id", *tokenizer.bos());
  if (tokenizer.eos()) set("eos_token_id", *tokenizer.eos());
  std::vector<std::string_view> more = {"eom_token_id", "eot_token_id"};
  for (const TokenId stop : tokenizer.stop_tokens()) {
    if (stop == tokenizer.eos() || more.empty()) continue;
    set(more.back(), stop);
    more.pop_back();
  }
  std::vector<TokenId> around = tokenizer.Encode("", {.add_special = true});
  const bool add_bos = !around.empty() && around.front() == tokenizer.bos();
  if (add_bos) around.erase(around.begin());
  const bool add_eos = !around.empty() && around.back() == tokenizer.eos();
  if (add_eos) around.pop_back();
  if (!around.empty()) {
    return Error{ErrorCode::kUnsupported, DisplayName(files) + ": its tokenizer puts " +
                                              tokenizer.Piece(around.front()) +
                                              " around a text, which a GGUF cannot say"};
  }
  values["tokenizer.ggml.add_bos_token"] = add_bos;
  values["tokenizer.ggml.add_eos_token"] = add_eos;

  MOXIE_TRY_ASSIGN(const auto text, files.ReadCompanion("tokenizer_config.json"));
  if (!text) return {};
  MOXIE_TRY_ASSIGN(const json config, ParseJson(*text, "tokenizer_config.json"));
  for (const Named& other : kOthers) {
    const json* member = FindMember(config, other.member);
    if (member != nullptr && member->is_object()) member = FindMember(*member, "content");
    if (member == nullptr || !member->is_string()) continue;
    const auto id = tokenizer.FindPiece(member->get_ref<const std::string&>());
    if (id) set(other.key, *id);
  }
  return {};
}

/// The tokenizer that the keys stand for.
Result<std::unique_ptr<Tokenizer>> ReadBack(const GgufMetadata& metadata) {
  ModelFiles files;
  files.path = metadata.file;
  files.metadata.file = metadata.file;
  for (const auto& [key, value] : metadata.values) {
    if (key.starts_with("tokenizer.")) files.metadata.values.emplace(key, value);
  }
  return LoadTokenizer(files);
}

}  // namespace

Result<void> AddTokenizerMetadata(const ModelFiles& files, const ModelConfig& config,
                                  GgufMetadata* metadata) {
  MOXIE_TRY_ASSIGN(GgufVocabulary vocabulary, ReadFolderVocabulary(files));
  if (vocabulary.model.empty()) return {};
  const auto count = static_cast<int64_t>(vocabulary.tokens.size());
  if (count > config.vocab_size) {
    return Error{ErrorCode::kInvalidInput,
                 DisplayName(files) + ": its tokenizer has " + std::to_string(count) +
                     " tokens, but the model has " + std::to_string(config.vocab_size)};
  }
  if (count < config.vocab_size) {
    const int64_t last = config.vocab_size - 1;
    vocabulary.Set(last, "[PAD" + std::to_string(last) + "]", -10000.0f, GgufVocabulary::kUnused);
  }
  AddArrays(std::move(vocabulary), metadata);
  MOXIE_TRY_ASSIGN(const std::unique_ptr<Tokenizer> tokenizer, LoadTokenizer(files));
  MOXIE_TRY(AddEnds(files, *tokenizer, metadata));
  MOXIE_TRY_ASSIGN(const std::unique_ptr<Tokenizer> made, ReadBack(*metadata));
  MOXIE_TRY(CheckSameTokens(DisplayName(files), *tokenizer, *made));
  MOXIE_TRY_ASSIGN(std::string chat_template, ReadChatTemplate(files));
  if (!chat_template.empty())
    metadata->values["tokenizer.chat_template"] = std::move(chat_template);
  return {};
}

}  // namespace moxie
