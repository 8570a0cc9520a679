#include <algorithm>
#include <nlohmann/json.hpp>

#include "formats/json.h"
#include "tokenizer/base64.h"
#include "tokenizer/bpe.h"
#include "tokenizer/json_fields.h"
#include "tokenizer/loaders.h"

namespace moxie {

namespace {

using nlohmann::json;

struct Tekken {
  int64_t vocabulary_size = 0;  // Special tokens included.
  int64_t special_count = 0;
  std::vector<AddedToken> special;
  std::vector<std::string> pieces;  // By rank, as byte-level characters.
  std::string pattern;
};

Result<void> ReadConfig(const json& root, Tekken* tekken) {
  const json* config = FindMember(root, "config");
  if (config == nullptr) return WrongType("config", "an object");
  MOXIE_TRY_ASSIGN(tekken->pattern, TextOr(*config, "pattern", ""));
  MOXIE_TRY_ASSIGN(tekken->vocabulary_size, IntegerOr(*config, "default_vocab_size", 0));
  MOXIE_TRY_ASSIGN(tekken->special_count, IntegerOr(*config, "default_num_special_tokens", 0));
  if (tekken->special_count < 0 || tekken->special_count > kMaxVocabularySize ||
      tekken->vocabulary_size < tekken->special_count + 256 ||
      tekken->vocabulary_size > kMaxVocabularySize) {
    return WrongType("config.default_vocab_size", "256 bytes and the special tokens at least");
  }
  return {};
}

/// Special tokens take the first ids; those without a name are <SPECIAL_n>.
Result<void> ReadSpecial(const json& root, Tekken* tekken) {
  // Older files leave the list out and mean these.
  static constexpr std::string_view kOld[] = {"<unk>",
                                              "<s>",
                                              "</s>",
                                              "[INST]",
                                              "[/INST]",
                                              "[AVAILABLE_TOOLS]",
                                              "[/AVAILABLE_TOOLS]",
                                              "[TOOL_RESULTS]",
                                              "[/TOOL_RESULTS]",
                                              "[TOOL_CALLS]",
                                              "[IMG]",
                                              "<pad>",
                                              "[IMG_BREAK]",
                                              "[IMG_END]",
                                              "[PREFIX]",
                                              "[MIDDLE]",
                                              "[SUFFIX]",
                                              "[SYSTEM_PROMPT]",
                                              "[/SYSTEM_PROMPT]",
                                              "[TOOL_CONTENT]"};
  const auto count = static_cast<size_t>(tekken->special_count);
  tekken->special.resize(count);
  for (size_t i = 0; i < count; ++i) {
    AddedToken& token = tekken->special[i];
    token.id = static_cast<TokenId>(i);
    token.content = "<SPECIAL_" + std::to_string(i) + ">";
    token.special = true;
  }
  MOXIE_TRY_ASSIGN(const json* list, ArrayOr(root, "special_tokens"));
  if (list->empty()) {
    for (size_t i = 0; i < std::min(count, std::size(kOld)); ++i) {
      tekken->special[i].content = kOld[i];
    }
  }
  for (const json& entry : *list) {
    MOXIE_TRY_ASSIGN(const int64_t rank, IntegerOr(entry, "rank", -1));
    MOXIE_TRY_ASSIGN(const std::string text, TextOr(entry, "token_str", ""));
    if (rank < 0 || rank >= tekken->special_count || text.empty()) {
      return WrongType("special_tokens",
                       "a token_str and a rank below " + std::to_string(tekken->special_count));
    }
    tekken->special[static_cast<size_t>(rank)].content = text;
  }
  return {};
}

Result<void> ReadPieces(const json& root, Tekken* tekken) {
  MOXIE_TRY_ASSIGN(const json* list, ArrayOr(root, "vocab"));
  // The file holds more than the model has rows; the first ranks count.
  const auto count = static_cast<size_t>(tekken->vocabulary_size - tekken->special_count);
  if (list->size() < count) {
    return WrongType("vocab", std::to_string(count) + " tokens (default_vocab_size)");
  }
  for (size_t i = 0; i < count; ++i) {
    const json& entry = (*list)[i];
    MOXIE_TRY_ASSIGN(const int64_t rank, IntegerOr(entry, "rank", -1));
    MOXIE_TRY_ASSIGN(const std::string encoded, TextOr(entry, "token_bytes", ""));
    MOXIE_TRY_ASSIGN(const std::string bytes, DecodeBase64(encoded, "vocab.token_bytes"));
    if (rank != static_cast<int64_t>(i) || bytes.empty()) {
      return WrongType(
          "vocab", "token_bytes and rank " + std::to_string(i) + " at place " + std::to_string(i));
    }
    tekken->pieces.push_back(BytesToCharacters(bytes));
  }
  return {};
}

}  // namespace

Result<TokenizerParts> LoadTekken(std::string_view text) {
  MOXIE_TRY_ASSIGN(const json root, ParseJson(text, "tekken.json"));
  Tekken tekken;
  MOXIE_TRY(ReadConfig(root, &tekken));
  MOXIE_TRY(ReadSpecial(root, &tekken));
  MOXIE_TRY(ReadPieces(root, &tekken));
  MOXIE_TRY_ASSIGN(Regex regex, Regex::Compile(tekken.pattern));

  // The model knows the ordinary tokens, at the ids behind the special ones.
  std::vector<std::pair<std::string, int64_t>> pieces;
  std::vector<uint32_t> ranks(static_cast<size_t>(tekken.vocabulary_size), UINT32_MAX);
  for (size_t i = 0; i < tekken.pieces.size(); ++i) {
    const size_t id = i + static_cast<size_t>(tekken.special_count);
    pieces.emplace_back(tekken.pieces[i], static_cast<int64_t>(id));
    ranks[id] = static_cast<uint32_t>(i);
  }
  MOXIE_TRY_ASSIGN(Vocabulary ordinary, Vocabulary::Create(pieces));
  for (const AddedToken& token : tekken.special) pieces.emplace_back(token.content, token.id);
  MOXIE_TRY_ASSIGN(Vocabulary all, Vocabulary::Create(std::move(pieces)));

  TokenizerParts parts;
  parts.vocabulary = std::make_shared<const Vocabulary>(std::move(all));
  BpeModel::ExtraCharacters extra;
  const auto merges = BpeModel::MergesFromRanks(ordinary, ranks, &extra);
  BpeModel::Options options;
  options.ignore_merges = true;  // tiktoken looks a word up as a whole first.
  parts.model = std::make_unique<BpeModel>(std::make_shared<const Vocabulary>(std::move(ordinary)),
                                           merges, std::move(options), extra);
  PreTokenizerStep split;
  split.regex = std::make_shared<const Regex>(std::move(regex));
  PreTokenizerStep bytes{.kind = PreTokenizerStep::Kind::kByteLevel};
  parts.pre_tokenizer = PreTokenizer({std::move(split), std::move(bytes)});
  parts.decoder = TokenDecoder({{.kind = DecoderStep::Kind::kByteLevel}});
  parts.special.assign(static_cast<size_t>(tekken.special_count), true);
  parts.added = std::move(tekken.special);
  parts.bos = parts.vocabulary->Find("<s>");
  parts.eos = parts.vocabulary->Find("</s>");
  return parts;
}

}  // namespace moxie
