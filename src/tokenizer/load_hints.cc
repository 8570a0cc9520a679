#include <charconv>
#include <nlohmann/json.hpp>
#include <string>

#include "formats/json.h"
#include "tokenizer/json_fields.h"
#include "tokenizer/loaders.h"

namespace moxie {

namespace {

using nlohmann::json;

Result<json> ReadJsonCompanion(const ModelFiles& files, std::string_view name) {
  MOXIE_TRY_ASSIGN(const std::optional<std::string> text, files.ReadCompanion(name));
  if (!text) return json::object();
  MOXIE_TRY_ASSIGN(json parsed, ParseJson(*text, name));
  if (!parsed.is_object()) return WrongType(name, "an object");
  return parsed;
}

/// A special token's text: a string, or an object with `content`.
std::optional<std::string> PieceNamed(const json& config, const char* key) {
  const json* member = FindMember(config, key);
  if (member != nullptr && member->is_object()) member = FindMember(*member, "content");
  if (member == nullptr || !member->is_string()) return std::nullopt;
  return member->get<std::string>();
}

std::optional<bool> FlagNamed(const json& config, const char* key) {
  const json* member = FindMember(config, key);
  if (member == nullptr || !member->is_boolean()) return std::nullopt;
  return member->get<bool>();
}

std::vector<int64_t> IdsNamed(const json& config, const char* key) {
  const json* member = FindMember(config, key);
  std::vector<int64_t> ids;
  if (member == nullptr) return ids;
  const auto add = [&](const json& value) {
    if (value.is_number_integer()) ids.push_back(value.get<int64_t>());
  };
  if (member->is_array()) {
    for (const json& value : *member) add(value);
  } else {
    add(*member);
  }
  return ids;
}

/// {"32000": {"content": "<|im_start|>", "special": true, ...}, ...}
Result<std::vector<AddedToken>> ParseAddedTokensDecoder(const json& config) {
  std::vector<AddedToken> tokens;
  const json* decoder = FindMember(config, "added_tokens_decoder");
  if (decoder == nullptr) return tokens;
  if (!decoder->is_object()) return WrongType("added_tokens_decoder", "an object");
  for (const auto& [key, entry] : decoder->items()) {
    int64_t id = -1;
    const auto parsed = std::from_chars(key.data(), key.data() + key.size(), id);
    if (parsed.ptr != key.data() + key.size() || id < 0 || id >= kMaxVocabularySize) {
      return WrongType("added_tokens_decoder",
                       "ids from 0 to " + std::to_string(kMaxVocabularySize - 1));
    }
    AddedToken token;
    token.id = static_cast<TokenId>(id);
    MOXIE_TRY_ASSIGN(token.content, TextOr(entry, "content", ""));
    MOXIE_TRY_ASSIGN(token.special, BoolOr(entry, "special", false));
    MOXIE_TRY_ASSIGN(token.single_word, BoolOr(entry, "single_word", false));
    MOXIE_TRY_ASSIGN(token.lstrip, BoolOr(entry, "lstrip", false));
    MOXIE_TRY_ASSIGN(token.rstrip, BoolOr(entry, "rstrip", false));
    if (!token.content.empty()) tokens.push_back(std::move(token));
  }
  return tokens;
}

}  // namespace

Result<TokenizerHints> ReadTokenizerHints(const ModelFiles& files) {
  TokenizerHints hints;
  // The first file that says something wins.
  for (const char* name : {"tokenizer_config.json", "special_tokens_map.json"}) {
    MOXIE_TRY_ASSIGN(const json config, ReadJsonCompanion(files, name));
    if (!hints.bos_piece) hints.bos_piece = PieceNamed(config, "bos_token");
    if (!hints.eos_piece) hints.eos_piece = PieceNamed(config, "eos_token");
    if (!hints.add_bos) hints.add_bos = FlagNamed(config, "add_bos_token");
    if (hints.added.empty()) {
      MOXIE_TRY_ASSIGN(hints.added, ParseAddedTokensDecoder(config));
    }
    if (!hints.add_eos) hints.add_eos = FlagNamed(config, "add_eos_token");
  }
  for (const char* name : {"generation_config.json", "config.json"}) {
    MOXIE_TRY_ASSIGN(const json config, ReadJsonCompanion(files, name));
    const std::vector<int64_t> bos = IdsNamed(config, "bos_token_id");
    if (!hints.bos_id && !bos.empty()) hints.bos_id = bos.front();
    if (hints.eos_ids.empty()) hints.eos_ids = IdsNamed(config, "eos_token_id");
  }
  return hints;
}

Result<void> AddHintedTokens(const TokenizerHints& hints, TokenizerParts* parts) {
  for (const AddedToken& token : hints.added) {
    const auto known = parts->vocabulary->Find(token.content);
    if (known && *known != token.id) {
      return Error{ErrorCode::kInvalidInput,
                   "added_tokens_decoder: token " + std::to_string(token.id) +
                       " is given a piece that is token " + std::to_string(*known)};
    }
  }
  MOXIE_TRY_ASSIGN(parts->vocabulary, WithAddedTokens(parts->vocabulary, hints.added));
  parts->special.resize(static_cast<size_t>(parts->vocabulary->size()));
  for (const AddedToken& token : hints.added) {
    std::erase_if(parts->added, [&](const AddedToken& old) { return old.id == token.id; });
    parts->added.push_back(token);
    parts->special[static_cast<size_t>(token.id)] = token.special;
  }
  return {};
}

void ApplyHints(const TokenizerHints& hints, bool template_adds, TokenizerParts* parts) {
  const Vocabulary& vocabulary = *parts->vocabulary;
  const auto in_range = [&](int64_t id) { return id >= 0 && id < vocabulary.size(); };
  if (hints.bos_piece) {
    if (const auto id = vocabulary.Find(*hints.bos_piece)) parts->bos = id;
  }
  if (hints.eos_piece) {
    if (const auto id = vocabulary.Find(*hints.eos_piece)) parts->eos = id;
  }
  if (!parts->bos && hints.bos_id && in_range(*hints.bos_id)) {
    parts->bos = static_cast<TokenId>(*hints.bos_id);
  }
  for (const int64_t id : hints.eos_ids) {
    if (!parts->eos && in_range(id)) parts->eos = static_cast<TokenId>(id);
  }
  if (!template_adds) {
    parts->prefix.clear();
    parts->suffix.clear();
    if (parts->bos && hints.add_bos.value_or(true)) parts->prefix = {*parts->bos};
    if (parts->eos && hints.add_eos.value_or(false)) parts->suffix = {*parts->eos};
  }
  parts->stops.clear();
  if (parts->eos) AddStop(vocabulary, *parts->eos, &parts->stops);
  for (const int64_t id : hints.eos_ids) AddStop(vocabulary, id, &parts->stops);
  if (hints.eos_ids.empty()) AddKnownStops(vocabulary, &parts->stops);
}

}  // namespace moxie
