#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "formats/json.h"
#include "tokenizer/bpe.h"
#include "tokenizer/json_fields.h"
#include "tokenizer/json_steps.h"
#include "tokenizer/loaders.h"
#include "tokenizer/unigram.h"

namespace moxie {

namespace {

using nlohmann::json;
using Pieces = std::vector<std::pair<std::string, int64_t>>;

Result<Pieces> ParseVocabularyObject(const json& model) {
  const json* vocab = FindMember(model, "vocab");
  if (vocab == nullptr || !vocab->is_object()) {
    return WrongType("model.vocab", "an object of pieces and ids");
  }
  Pieces pieces;
  pieces.reserve(vocab->size());
  for (const auto& [piece, id] : vocab->items()) {
    if (!id.is_number_integer()) return WrongType("model.vocab", "ids that are integers");
    // Ids over int64 wrap below 0, which Vocabulary refuses.
    pieces.emplace_back(piece, id.get<int64_t>());
  }
  return pieces;
}

Result<std::vector<std::pair<std::string, std::string>>> ParseMerges(const json& model) {
  MOXIE_TRY_ASSIGN(const json* list, ArrayOr(model, "merges"));
  std::vector<std::pair<std::string, std::string>> merges;
  merges.reserve(list->size());
  for (const json& merge : *list) {
    if (merge.is_string()) {
      const auto& text = merge.get_ref<const std::string&>();
      const size_t space = text.find(' ');
      if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos) {
        return WrongType("model.merges", "two pieces with one space between them");
      }
      merges.emplace_back(text.substr(0, space), text.substr(space + 1));
    } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() &&
               merge[1].is_string()) {
      merges.emplace_back(merge[0].get<std::string>(), merge[1].get<std::string>());
    } else {
      return WrongType("model.merges", "strings or pairs of strings");
    }
  }
  return merges;
}

struct ParsedModel {
  std::shared_ptr<const Vocabulary> vocabulary;
  std::unique_ptr<TokenModel> model;
};

Result<ParsedModel> ParseBpe(const json& model) {
  MOXIE_TRY_ASSIGN(Pieces pieces, ParseVocabularyObject(model));
  MOXIE_TRY_ASSIGN(Vocabulary vocabulary, Vocabulary::Create(std::move(pieces)));
  MOXIE_TRY_ASSIGN(const auto texts, ParseMerges(model));
  MOXIE_TRY_ASSIGN(const auto merges, BpeModel::ResolveMerges(vocabulary, texts));
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    MOXIE_TRY_ASSIGN(const std::string affix, TextOr(model, key, ""));
    if (!affix.empty()) {
      return Error{ErrorCode::kUnsupported, std::string("model.") + key + ": is not supported"};
    }
  }
  BpeModel::Options options;
  MOXIE_TRY_ASSIGN(options.fuse_unknown, BoolOr(model, "fuse_unk", false));
  MOXIE_TRY_ASSIGN(options.ignore_merges, BoolOr(model, "ignore_merges", false));
  MOXIE_TRY_ASSIGN(options.byte_fallback, BoolOr(model, "byte_fallback", false));
  MOXIE_TRY_ASSIGN(const std::string unknown, TextOr(model, "unk_token", ""));
  if (!unknown.empty()) {
    options.unknown = vocabulary.Find(unknown);
    if (!options.unknown) return WrongType("model.unk_token", "a piece of the vocabulary");
  }
  auto shared = std::make_shared<const Vocabulary>(std::move(vocabulary));
  return ParsedModel{shared, std::make_unique<BpeModel>(shared, merges, std::move(options))};
}

/// The reference's JSON reader (serde_json) does not round scores correctly: it
/// divides their digits by a power of ten. Segmentations of equal score are
/// common and fall by the last bit.
double AsReferenceReads(double score) {
  char text[40];
  const auto end =
      std::to_chars(text, text + sizeof text, std::abs(score), std::chars_format::scientific).ptr;
  uint64_t digits = 0;
  int exponent = 0;
  bool fraction = false;
  for (const char* c = text; c != end; ++c) {
    if (*c == 'e') {
      const bool negative = c[1] == '-';
      int written = 0;
      std::from_chars(c + 2, end, written);
      exponent += negative ? -written : written;
      break;
    }
    if (*c == '.') {
      fraction = true;
    } else if (*c >= '0' && *c <= '9') {
      digits = digits * 10 + static_cast<uint64_t>(*c - '0');
      if (fraction) --exponent;
    }
  }
  if (exponent < -300 || exponent > 22 || !std::isfinite(score)) return score;
  const double power = std::strtod(("1e" + std::to_string(std::abs(exponent))).c_str(), nullptr);
  const double magnitude =
      exponent < 0 ? static_cast<double>(digits) / power : static_cast<double>(digits) * power;
  return std::copysign(magnitude, score);
}

Result<ParsedModel> ParseUnigram(const json& model) {
  MOXIE_TRY_ASSIGN(const json* list, ArrayOr(model, "vocab"));
  Pieces pieces;
  std::vector<double> scores;
  for (const json& entry : *list) {
    if (!entry.is_array() || entry.size() != 2 || !entry[0].is_string() || !entry[1].is_number()) {
      return WrongType("model.vocab", "pairs of a piece and its score");
    }
    pieces.emplace_back(entry[0].get<std::string>(), static_cast<int64_t>(pieces.size()));
    scores.push_back(AsReferenceReads(entry[1].get<double>()));
  }
  MOXIE_TRY_ASSIGN(Vocabulary vocabulary, Vocabulary::Create(std::move(pieces)));
  UnigramModel::Options options;
  options.single_precision = false;
  MOXIE_TRY_ASSIGN(options.byte_fallback, BoolOr(model, "byte_fallback", false));
  MOXIE_TRY_ASSIGN(const int64_t unknown, IntegerOr(model, "unk_id", -1));
  if (unknown < -1 || unknown >= vocabulary.size()) {
    return WrongType("model.unk_id", "an id of the vocabulary");
  }
  if (unknown >= 0) options.unknown = static_cast<TokenId>(unknown);
  auto shared = std::make_shared<const Vocabulary>(std::move(vocabulary));
  return ParsedModel{shared,
                     std::make_unique<UnigramModel>(shared, std::move(scores), std::move(options))};
}

Result<ParsedModel> ParseModel(const json& root) {
  const json* model = FindMember(root, "model");
  if (model == nullptr) return WrongType("model", "an object");
  MOXIE_TRY_ASSIGN(std::string type, TextOr(*model, "type", ""));
  if (type.empty()) type = FindMember(*model, "merges") != nullptr ? "BPE" : "Unigram";
  if (type == "BPE") return ParseBpe(*model);
  if (type == "Unigram") return ParseUnigram(*model);
  return Error{ErrorCode::kUnsupported,
               "model: type \"" + type.substr(0, 60) + "\" is not supported"};
}

/// Ids are the model's where it has the piece, else the file's.
Result<std::vector<AddedToken>> ParseAddedTokens(const json& root, const Vocabulary& model) {
  MOXIE_TRY_ASSIGN(const json* list, ArrayOr(root, "added_tokens"));
  std::vector<AddedToken> tokens;
  for (const json& entry : *list) {
    AddedToken token;
    MOXIE_TRY_ASSIGN(token.content, TextOr(entry, "content", ""));
    MOXIE_TRY_ASSIGN(const int64_t id, IntegerOr(entry, "id", -1));
    MOXIE_TRY_ASSIGN(token.special, BoolOr(entry, "special", false));
    MOXIE_TRY_ASSIGN(token.single_word, BoolOr(entry, "single_word", false));
    MOXIE_TRY_ASSIGN(token.lstrip, BoolOr(entry, "lstrip", false));
    MOXIE_TRY_ASSIGN(token.rstrip, BoolOr(entry, "rstrip", false));
    MOXIE_TRY_ASSIGN(token.normalized, BoolOr(entry, "normalized", !token.special));
    if (token.content.empty()) continue;
    const auto known = model.Find(token.content);
    if (!known && (id < 0 || id >= kMaxVocabularySize)) {
      return WrongType("added_tokens.id",
                       "an id from 0 to " + std::to_string(kMaxVocabularySize - 1));
    }
    token.id = known.value_or(static_cast<TokenId>(id));
    tokens.push_back(std::move(token));
  }
  return tokens;
}

/// The id of a processor's [piece, id] member.
Result<TokenId> ParsePieceAndId(const json& processor, const char* key, const Vocabulary& all) {
  const json* member = FindMember(processor, key);
  const bool pair =
      member != nullptr && member->is_array() && member->size() == 2 && (*member)[0].is_string();
  const auto id = pair ? all.Find((*member)[0].get_ref<const std::string&>()) : std::nullopt;
  if (!id) return WrongType(std::string("post_processor.") + key, "a pair of a piece and its id");
  return *id;
}

/// What a template puts around the one sequence.
Result<void> ParseTemplate(const json& processor, const Vocabulary& all, TokenizerParts* parts) {
  MOXIE_TRY_ASSIGN(const json* single, ArrayOr(processor, "single"));
  bool after_text = false;
  for (const json& entry : *single) {
    if (FindMember(entry, "Sequence") != nullptr) {
      after_text = true;
      continue;
    }
    const json* special = FindMember(entry, "SpecialToken");
    if (special == nullptr) return WrongType("post_processor.single", "Sequence or SpecialToken");
    MOXIE_TRY_ASSIGN(const std::string name, TextOr(*special, "id", ""));
    const json* known = FindMember(processor, "special_tokens");
    const json* token = known == nullptr ? nullptr : FindMember(*known, name.c_str());
    if (token == nullptr) return WrongType("post_processor.special_tokens", "each token of single");
    MOXIE_TRY_ASSIGN(const json* ids, ArrayOr(*token, "ids"));
    for (const json& id : *ids) {
      if (!id.is_number_integer() || id.get<int64_t>() < 0 || id.get<int64_t>() >= all.size()) {
        return WrongType("post_processor.special_tokens", "ids of the vocabulary");
      }
      (after_text ? parts->suffix : parts->prefix).push_back(id.get<TokenId>());
    }
  }
  return {};
}

Result<void> ParsePostProcessor(const json* processor, const Vocabulary& all, int depth,
                                TokenizerParts* parts) {
  if (processor == nullptr) return {};
  if (depth > 20) return WrongType("post_processor", "at most 20 levels of sequences");
  MOXIE_TRY_ASSIGN(const std::string type, TextOr(*processor, "type", ""));
  if (type == "Sequence") {
    MOXIE_TRY_ASSIGN(const json* members, ArrayOr(*processor, "processors"));
    for (const json& member : *members) {
      MOXIE_TRY(ParsePostProcessor(&member, all, depth + 1, parts));
    }
    return {};
  }
  if (type == "ByteLevel") return {};  // Concerns offsets alone.
  if (type == "TemplateProcessing") return ParseTemplate(*processor, all, parts);
  if (type == "BertProcessing" || type == "RobertaProcessing") {
    MOXIE_TRY_ASSIGN(const TokenId first, ParsePieceAndId(*processor, "cls", all));
    MOXIE_TRY_ASSIGN(const TokenId last, ParsePieceAndId(*processor, "sep", all));
    parts->prefix.push_back(first);
    parts->suffix.push_back(last);
    return {};
  }
  return Error{ErrorCode::kUnsupported,
               "post_processor: type \"" + type.substr(0, 60) + "\" is not supported"};
}

}  // namespace

Result<std::shared_ptr<const Vocabulary>> WithAddedTokens(
    const std::shared_ptr<const Vocabulary>& model, const std::vector<AddedToken>& added) {
  Pieces pieces;
  for (const AddedToken& token : added) {
    if (!model->Find(token.content)) pieces.emplace_back(token.content, token.id);
  }
  if (pieces.empty()) return model;
  for (TokenId id = 0; id < model->size(); ++id) {
    if (const std::string* piece = model->Piece(id)) pieces.emplace_back(*piece, id);
  }
  MOXIE_TRY_ASSIGN(Vocabulary all, Vocabulary::Create(std::move(pieces)));
  return std::make_shared<const Vocabulary>(std::move(all));
}

Result<TokenizerParts> LoadTokenizerJson(std::string_view text) {
  MOXIE_TRY_ASSIGN(const json root, ParseJson(text, "tokenizer.json"));
  if (!root.is_object()) return WrongType("tokenizer.json", "an object");
  MOXIE_TRY_ASSIGN(ParsedModel parsed, ParseModel(root));
  TokenizerParts parts;
  MOXIE_TRY_ASSIGN(parts.added, ParseAddedTokens(root, *parsed.vocabulary));
  MOXIE_TRY_ASSIGN(parts.vocabulary, WithAddedTokens(parsed.vocabulary, parts.added));
  parts.model = std::move(parsed.model);
  MOXIE_TRY_ASSIGN(parts.normalizer, ParseNormalizer(FindMember(root, "normalizer")));
  MOXIE_TRY_ASSIGN(auto words, ParsePreTokenizer(FindMember(root, "pre_tokenizer")));
  parts.pre_tokenizer = PreTokenizer(std::move(words));
  MOXIE_TRY_ASSIGN(auto decoder, ParseDecoder(FindMember(root, "decoder")));
  parts.decoder = TokenDecoder(std::move(decoder));
  MOXIE_TRY(ParsePostProcessor(FindMember(root, "post_processor"), *parts.vocabulary, 0, &parts));
  parts.special.resize(static_cast<size_t>(parts.vocabulary->size()));
  for (const AddedToken& token : parts.added) {
    if (token.special) parts.special[static_cast<size_t>(token.id)] = true;
  }
  return parts;
}

}  // namespace moxie
