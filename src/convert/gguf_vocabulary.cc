#include "convert/gguf_vocabulary.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <unordered_map>
#include <utility>

#include "core/printable.h"
#include "formats/json.h"
#include "tokenizer/gguf_patterns.h"
#include "tokenizer/json_fields.h"
#include "tokenizer/loaders.h"
#include "tokenizer/sentencepiece.h"
#include "tokenizer/vocabulary.h"

namespace moxie {
namespace {

using nlohmann::json;

constexpr float kUnusedScore = -10000.0f;  // As llama.cpp's converter gives them.
constexpr float kAddedScore = -1000.0f;
constexpr std::string_view kJsonName = "tokenizer.json";

Error NoName(std::string_view what) {
  return {ErrorCode::kUnsupported,
          std::string(kJsonName) + ": " + std::string(what) + ", for which GGUF has no name"};
}

/// The steps of a pre_tokenizer or normalizer, sequences flattened.
Result<std::vector<const json*>> Steps(const json& root, const char* what, const char* list) {
  std::vector<const json*> steps;
  std::vector<const json*> pending;
  if (const json* first = FindMember(root, what)) pending.push_back(first);
  while (!pending.empty()) {
    const json& step = *pending.back();
    pending.pop_back();
    MOXIE_TRY_ASSIGN(const std::string type, TextOr(step, "type", ""));
    if (type != "Sequence") {
      steps.push_back(&step);
      continue;
    }
    MOXIE_TRY_ASSIGN(const json* members, ArrayOr(step, list));
    for (auto member = members->rbegin(); member != members->rend(); ++member)
      pending.push_back(&*member);
  }
  return steps;
}

/// A quotation mark needs no backslash in a regular expression, but some files write one.
std::string Unescaped(std::string pattern) {
  for (size_t at = pattern.find("\\\""); at != std::string::npos; at = pattern.find("\\\"", at)) {
    const size_t before = pattern.find_last_not_of('\\', at);
    const size_t backslashes = at - (before == std::string::npos ? 0 : before + 1) + 1;
    if (backslashes % 2 == 1) pattern.erase(at, 1);
    ++at;
  }
  return pattern;
}

/// The patterns of a byte-level pre_tokenizer; nothing where it is none.
Result<std::optional<std::vector<std::string>>> ByteLevelPatterns(const json& root) {
  MOXIE_TRY_ASSIGN(const auto steps, Steps(root, "pre_tokenizer", "pretokenizers"));
  std::vector<std::string> patterns;
  bool bytes = false;
  for (const json* step : steps) {
    MOXIE_TRY_ASSIGN(const std::string type, TextOr(*step, "type", ""));
    if (type == "ByteLevel") {
      bytes = true;
      MOXIE_TRY_ASSIGN(const bool regex, BoolOr(*step, "use_regex", true));
      if (regex) patterns.emplace_back(kGpt2Pattern);
    } else if (type == "Digits") {
      MOXIE_TRY_ASSIGN(const bool individual, BoolOr(*step, "individual_digits", false));
      patterns.emplace_back(individual ? R"(\p{N})" : R"(\p{N}+)");
    } else if (type == "Split" && FindMember(*step, "pattern") != nullptr) {
      MOXIE_TRY_ASSIGN(const std::string regex, TextOr(*FindMember(*step, "pattern"), "Regex", ""));
      MOXIE_TRY_ASSIGN(const std::string behavior, TextOr(*step, "behavior", "Isolated"));
      MOXIE_TRY_ASSIGN(const bool invert, BoolOr(*step, "invert", false));
      // A pattern that matches everything gives the same words whether matches or gaps are kept.
      const bool cuts = behavior == "Isolated" || (behavior == "Removed" && invert);
      patterns.push_back(cuts ? Unescaped(regex) : "");
    } else {
      patterns.emplace_back();  // Matches no name's.
    }
  }
  if (!bytes) return std::optional<std::vector<std::string>>();
  return std::optional(std::move(patterns));
}

Result<bool> NormalisesNfc(const json& root) {
  MOXIE_TRY_ASSIGN(const auto steps, Steps(root, "normalizer", "normalizers"));
  for (const json* step : steps) {
    MOXIE_TRY_ASSIGN(const std::string type, TextOr(*step, "type", ""));
    if (type != "NFC") return NoName("normalises with " + Printable(type, 60));
  }
  return !steps.empty();
}

/// Pieces, added tokens and merges of tokenizer.json's BPE.
Result<void> ReadPieces(const json& root, const json& model, GgufVocabulary* out) {
  const json* pieces = FindMember(model, "vocab");
  if (pieces == nullptr || !pieces->is_object())
    return WrongType("model.vocab", "an object of pieces and ids");
  const auto place = [out](int64_t id, const std::string& text, GgufVocabulary::Type type,
                           float score) -> Result<void> {
    if (id < 0 || id >= kMaxVocabularySize)
      return WrongType("tokenizer.json", "ids below " + std::to_string(kMaxVocabularySize));
    out->Set(id, text, score, type);
    return {};
  };
  for (const auto& [piece, id] : pieces->items()) {
    if (!id.is_number_integer()) return WrongType("model.vocab", "ids that are integers");
    MOXIE_TRY(place(id.get<int64_t>(), piece, GgufVocabulary::kNormal, 0));
  }
  MOXIE_TRY_ASSIGN(const json* added, ArrayOr(root, "added_tokens"));
  for (const json& token : *added) {
    MOXIE_TRY_ASSIGN(const std::string text, TextOr(token, "content", ""));
    MOXIE_TRY_ASSIGN(const int64_t own_id, IntegerOr(token, "id", -1));
    MOXIE_TRY_ASSIGN(const bool special, BoolOr(token, "special", false));
    const json* known = FindMember(*pieces, text.c_str());
    MOXIE_TRY(place(known == nullptr ? own_id : known->get<int64_t>(), text,
                    special ? GgufVocabulary::kControl : GgufVocabulary::kUserDefined,
                    kAddedScore));
  }
  return {};
}

Result<std::vector<std::pair<std::string, std::string>>> ReadMerges(const json& model) {
  MOXIE_TRY_ASSIGN(const json* list, ArrayOr(model, "merges"));
  std::vector<std::pair<std::string, std::string>> merges;
  for (const json& merge : *list) {
    if (merge.is_string()) {
      const auto& text = merge.get_ref<const std::string&>();
      const size_t space = text.find(' ', 1);
      if (space == std::string::npos) return WrongType("model.merges", "two pieces with a space");
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

Result<void> MakeByteLevel(const json& root, const json& model,
                           const std::vector<std::string>& patterns, GgufVocabulary* out) {
  out->model = "gpt2";
  MOXIE_TRY_ASSIGN(const bool nfc, NormalisesNfc(root));
  MOXIE_TRY_ASSIGN(const bool ignore_merges, BoolOr(model, "ignore_merges", false));
  const auto name = NameGgufSplit(patterns, nfc, ignore_merges);
  if (!name) {
    std::string shown;
    for (const std::string& pattern : patterns) shown += (shown.empty() ? "" : " ") + pattern;
    return NoName("splits text by " + Printable(shown, 100));
  }
  out->pre = *name;
  MOXIE_TRY_ASSIGN(const auto merges, ReadMerges(model));
  for (const auto& [left, right] : merges) out->merges.emplace_back(left).append(" ").append(right);
  return {};
}

/// Llama's vocabularies with byte fallback, whose merges were made of SentencePiece's scores: a
/// piece's score is the place of the first merge that gives it.
Result<void> MakeScored(const json& root, const json& model, GgufVocabulary* out) {
  out->model = "llama";
  MOXIE_TRY_ASSIGN(const auto merges, ReadMerges(model));
  std::unordered_map<std::string, float> scores;
  for (const auto& [left, right] : merges)
    scores.try_emplace(left + right, -static_cast<float>(scores.size()));
  MOXIE_TRY_ASSIGN(const std::string unknown, TextOr(model, "unk_token", "<unk>"));
  const auto lowest = -static_cast<float>(scores.size());
  for (size_t i = 0; i < out->tokens.size(); ++i) {
    const std::string& token = out->tokens[i];
    const bool byte = token.size() == 6 && token.starts_with("<0x") && token.back() == '>';
    if (token == unknown) out->types[i] = GgufVocabulary::kUnknown;
    if (out->types[i] != GgufVocabulary::kNormal) continue;
    if (byte) out->types[i] = GgufVocabulary::kByte;
    const auto score = scores.find(token);
    out->scores[i] = byte ? 0.0f : score == scores.end() ? lowest : score->second;
  }
  out->add_space_prefix = false;
  for (const auto& [what, list] :
       {std::pair{"normalizer", "normalizers"}, std::pair{"pre_tokenizer", "pretokenizers"}}) {
    MOXIE_TRY_ASSIGN(const auto steps, Steps(root, what, list));
    for (const json* step : steps) {
      MOXIE_TRY_ASSIGN(const std::string type, TextOr(*step, "type", ""));
      if (type == "Prepend") out->add_space_prefix = true;
      if (type != "Metaspace") continue;
      MOXIE_TRY_ASSIGN(const std::string scheme, TextOr(*step, "prepend_scheme", "always"));
      out->add_space_prefix = scheme != "never";
    }
  }
  return {};
}

Result<GgufVocabulary> FromSentencePiece(const ModelFiles& files, std::string_view bytes) {
  MOXIE_TRY_ASSIGN(SentencePieceModel model, ParseSentencePieceModel(bytes));
  GgufVocabulary out;
  out.model = model.unigram ? "t5" : "llama";
  out.add_space_prefix = model.add_dummy_prefix;
  out.remove_extra_whitespaces = model.remove_extra_whitespaces;
  out.chars_map.assign(model.chars_map.begin(), model.chars_map.end());
  if (model.treat_whitespace_as_suffix || !model.escape_whitespaces)
    return Error{ErrorCode::kUnsupported,
                 "tokenizer.model: puts spaces behind words, for which GGUF has no name"};
  for (size_t i = 0; i < model.pieces.size(); ++i) {
    SentencePieceModel::Piece& piece = model.pieces[i];
    out.Set(static_cast<int64_t>(i), std::move(piece.text), piece.score,
            static_cast<GgufVocabulary::Type>(piece.type));
  }
  MOXIE_TRY_ASSIGN(const TokenizerHints hints, ReadTokenizerHints(files));
  for (const AddedToken& token : hints.added) {
    const auto known = static_cast<size_t>(token.id);
    const bool unknown = known < out.types.size() && out.types[known] == GgufVocabulary::kUnknown;
    if (unknown) continue;
    out.Set(token.id, token.content, kAddedScore,
            token.special ? GgufVocabulary::kControl : GgufVocabulary::kUserDefined);
  }
  return out;
}

/// Mistral's byte-level vocabularies: pieces in the order in which they were merged. A piece comes
/// about from the two that merging the ranks before its own leaves of it.
Result<GgufVocabulary> FromTekken(std::string_view text) {
  MOXIE_TRY_ASSIGN(const TokenizerParts parts, LoadTekken(text));
  GgufVocabulary out;
  out.model = "gpt2";
  out.pre = "tekken";
  std::unordered_map<std::string, int64_t> ranks;
  for (TokenId id = 0; id < parts.vocabulary->size(); ++id) {
    const std::string* piece = parts.vocabulary->Piece(id);
    if (piece == nullptr) continue;
    const bool special = static_cast<size_t>(id) < parts.special.size();
    out.Set(id, *piece, 0, special ? GgufVocabulary::kControl : GgufVocabulary::kNormal);
    if (!special) ranks.emplace(*piece, id);
  }
  for (const std::string& piece : out.tokens) {
    const auto own = ranks.find(piece);
    if (own == ranks.end()) continue;
    std::vector<std::string> symbols;
    for (size_t at = 0; at < piece.size();) {
      size_t end = at + 1;
      while (end < piece.size() && (static_cast<unsigned char>(piece[end]) & 0xC0) == 0x80) ++end;
      symbols.push_back(piece.substr(at, end - at));
      at = end;
    }
    while (symbols.size() > 2) {
      size_t best = symbols.size();
      int64_t best_rank = own->second;
      for (size_t i = 0; i + 1 < symbols.size(); ++i) {
        const auto pair = ranks.find(symbols[i] + symbols[i + 1]);
        if (pair == ranks.end() || pair->second >= best_rank) continue;
        best = i;
        best_rank = pair->second;
      }
      if (best == symbols.size()) break;
      symbols[best] += symbols[best + 1];
      symbols.erase(symbols.begin() + static_cast<int64_t>(best) + 1);
    }
    if (symbols.size() == 2) out.merges.push_back(symbols[0] + " " + symbols[1]);
  }
  return out;
}

}  // namespace

void GgufVocabulary::Set(int64_t id, std::string text, float score, Type type) {
  const auto index = static_cast<size_t>(id);
  while (tokens.size() <= index) {
    tokens.push_back("[PAD" + std::to_string(tokens.size()) + "]");
    scores.push_back(kUnusedScore);
    types.push_back(kUnused);
  }
  tokens[index] = std::move(text);
  scores[index] = score;
  types[index] = type;
}

Result<std::optional<GgufVocabulary>> ReadTokenizerJson(std::string_view text,
                                                        bool byte_level_only) {
  MOXIE_TRY_ASSIGN(const json root, ParseJson(text, kJsonName));
  if (!root.is_object()) return WrongType(kJsonName, "an object");
  MOXIE_TRY_ASSIGN(const auto patterns, ByteLevelPatterns(root));
  if (!patterns && byte_level_only) return std::optional<GgufVocabulary>();
  const json* model = FindMember(root, "model");
  if (model == nullptr) return WrongType("model", "an object");
  MOXIE_TRY_ASSIGN(const std::string type, TextOr(*model, "type", "BPE"));
  if (type != "BPE") return NoName("has a " + Printable(type, 60) + " model of its own");
  GgufVocabulary out;
  MOXIE_TRY(ReadPieces(root, *model, &out));
  MOXIE_TRY(patterns ? MakeByteLevel(root, *model, *patterns, &out)
                     : MakeScored(root, *model, &out));
  return std::optional(std::move(out));
}

Result<GgufVocabulary> ReadFolderVocabulary(const ModelFiles& files) {
  constexpr const char* kSentencePiece[] = {"tokenizer.model", "tokenizer.model.v3",
                                            "tokenizer.model.v2", "tokenizer.model.v1"};
  std::optional<std::string> sentence_piece;
  for (const char* name : kSentencePiece) {
    if (sentence_piece) continue;
    MOXIE_TRY_ASSIGN(sentence_piece, files.ReadCompanion(name));
  }
  MOXIE_TRY_ASSIGN(const auto text, files.ReadCompanion(kJsonName));
  if (text) {
    MOXIE_TRY_ASSIGN(auto vocabulary, ReadTokenizerJson(*text, sentence_piece.has_value()));
    if (vocabulary) return std::move(*vocabulary);
  }
  if (sentence_piece) return FromSentencePiece(files, *sentence_piece);
  MOXIE_TRY_ASSIGN(const auto tekken, files.ReadCompanion("tekken.json"));
  return tekken ? FromTekken(*tekken) : GgufVocabulary();
}

}  // namespace moxie
