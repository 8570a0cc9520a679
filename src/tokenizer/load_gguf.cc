#include <algorithm>
#include <map>

#include "tokenizer/bpe.h"
#include "tokenizer/gguf_patterns.h"
#include "tokenizer/loaders.h"
#include "tokenizer/sentencepiece.h"

namespace moxie {

namespace {

// tokenizer.ggml.token_type
enum TokenType : int64_t { kNormal = 1, kUnknown, kControl, kUserDefined, kUnused, kByte };

struct GgufVocabulary {
  std::vector<std::string> pieces;
  std::vector<int64_t> types;  // As long as pieces.
  std::vector<double> scores;  // As long as pieces, or empty.
};

Error BadKey(std::string_view key, const std::string& expected) {
  return Error{ErrorCode::kInvalidInput,
               "tokenizer.ggml." + std::string(key) + ": expected " + expected};
}

Result<GgufVocabulary> ReadVocabulary(const GgufMetadata& metadata) {
  GgufVocabulary vocabulary;
  MOXIE_TRY_ASSIGN(auto pieces, metadata.Texts("tokenizer.ggml.tokens"));
  if (!pieces || pieces->empty()) return BadKey("tokens", "an array of strings");
  vocabulary.pieces = std::move(*pieces);
  MOXIE_TRY_ASSIGN(auto types, metadata.Integers("tokenizer.ggml.token_type"));
  vocabulary.types =
      types ? std::move(*types) : std::vector<int64_t>(vocabulary.pieces.size(), kNormal);
  MOXIE_TRY_ASSIGN(auto scores, metadata.Numbers("tokenizer.ggml.scores"));
  if (scores) vocabulary.scores = std::move(*scores);
  const size_t count = vocabulary.pieces.size();
  if (vocabulary.types.size() != count) {
    return BadKey("token_type", std::to_string(count) + " values, one a token");
  }
  if (scores && vocabulary.scores.size() != count) {
    return BadKey("scores", std::to_string(count) + " values, one a token");
  }
  // Some converters leave holes of a vocabulary empty.
  for (size_t i = 0; i < count; ++i) {
    if (vocabulary.pieces[i].empty()) vocabulary.pieces[i] = "[EMPTY_" + std::to_string(i) + "]";
  }
  return vocabulary;
}

Result<std::optional<TokenId>> ReadId(const GgufMetadata& metadata, const std::string& name,
                                      size_t count) {
  const std::string key = "tokenizer.ggml." + name;
  MOXIE_TRY_ASSIGN(const auto id, metadata.Integer(key));
  // Converters write -1 or 2^32-1 for "none".
  if (!id || *id == -1 || *id == UINT32_MAX) return std::optional<TokenId>();
  if (*id < 0 || *id >= static_cast<int64_t>(count)) {
    return BadKey(name, "an id below " + std::to_string(count) + ", got " + std::to_string(*id));
  }
  return std::optional<TokenId>(static_cast<TokenId>(*id));
}

/// phi-3's files mean, but do not say, that their added tokens take the space after them along.
Result<bool> IsPhi3(const GgufMetadata& metadata) {
  MOXIE_TRY_ASSIGN(const auto architecture, metadata.Text("general.architecture"));
  MOXIE_TRY_ASSIGN(const auto name, metadata.Text("general.name"));
  std::string lower = name.value_or("");
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return architecture.value_or("") == "phi3" || lower.find("phi-3") != std::string::npos ||
         lower.find("phi3") != std::string::npos;
}

void AddTokens(const GgufVocabulary& vocabulary, bool phi3, TokenizerParts* parts) {
  parts->special.resize(vocabulary.pieces.size());
  for (size_t i = 0; i < vocabulary.pieces.size(); ++i) {
    const int64_t type = vocabulary.types[i];
    const bool special = type == kControl || type == kUnknown;
    parts->special[i] = special;
    if (!special && type != kUserDefined) continue;
    AddedToken token;
    token.id = static_cast<TokenId>(i);
    token.content = vocabulary.pieces[i];
    token.special = special;
    token.rstrip = phi3 && token.content != "<unk>" && token.content != "<s>" &&
                   token.content != "<|endoftext|>";
    parts->added.push_back(std::move(token));
  }
}

Result<void> AddEnds(const GgufMetadata& metadata, bool default_bos, TokenizerParts* parts) {
  const auto count = static_cast<size_t>(parts->vocabulary->size());
  MOXIE_TRY_ASSIGN(parts->bos, ReadId(metadata, "bos_token_id", count));
  MOXIE_TRY_ASSIGN(parts->eos, ReadId(metadata, "eos_token_id", count));
  if (parts->eos) AddStop(*parts->vocabulary, *parts->eos, &parts->stops);
  for (const char* name : {"eot_token_id", "eom_token_id"}) {
    MOXIE_TRY_ASSIGN(const auto id, ReadId(metadata, name, count));
    if (id) AddStop(*parts->vocabulary, *id, &parts->stops);
  }
  AddKnownStops(*parts->vocabulary, &parts->stops);
  MOXIE_TRY_ASSIGN(const auto add_bos, metadata.Boolean("tokenizer.ggml.add_bos_token"));
  MOXIE_TRY_ASSIGN(const auto add_eos, metadata.Boolean("tokenizer.ggml.add_eos_token"));
  if (parts->bos && add_bos.value_or(default_bos)) parts->prefix = {*parts->bos};
  if (parts->eos && add_eos.value_or(false)) parts->suffix = {*parts->eos};
  return {};
}

Result<std::vector<BpeModel::Merge>> ReadMerges(const GgufMetadata& metadata,
                                                const Vocabulary& vocabulary) {
  MOXIE_TRY_ASSIGN(const auto lines, metadata.Texts("tokenizer.ggml.merges"));
  if (!lines) return BadKey("merges", "an array of strings");
  std::vector<std::pair<std::string, std::string>> merges;
  merges.reserve(lines->size());
  for (const std::string& line : *lines) {
    // The first piece may itself be a space.
    const size_t space = line.find(' ', 1);
    if (space == std::string::npos) {
      return BadKey("merges", "two pieces with a space between them");
    }
    merges.emplace_back(line.substr(0, space), line.substr(space + 1));
  }
  return BpeModel::ResolveMerges(vocabulary, merges);
}

Result<TokenizerParts> LoadByteLevel(const GgufMetadata& metadata, GgufVocabulary source) {
  MOXIE_TRY_ASSIGN(const auto name, metadata.Text("tokenizer.ggml.pre"));
  MOXIE_TRY_ASSIGN(GgufSplit split, FindGgufSplit(name.value_or("default")));
  TokenizerParts parts;
  AddTokens(source, false, &parts);
  std::vector<std::pair<std::string, int64_t>> pieces;
  for (std::string& piece : source.pieces) {
    pieces.emplace_back(std::move(piece), static_cast<int64_t>(pieces.size()));
  }
  MOXIE_TRY_ASSIGN(Vocabulary vocabulary, Vocabulary::Create(std::move(pieces)));
  MOXIE_TRY_ASSIGN(const auto merges, ReadMerges(metadata, vocabulary));
  parts.vocabulary = std::make_shared<const Vocabulary>(std::move(vocabulary));
  BpeModel::Options options;
  options.ignore_merges = split.ignore_merges;
  parts.model = std::make_unique<BpeModel>(parts.vocabulary, merges, std::move(options));
  if (split.nfc) parts.normalizer.push_back({.kind = NormalizerStep::Kind::kNfc});
  MOXIE_TRY_ASSIGN(const auto space, metadata.Boolean("tokenizer.ggml.add_space_prefix"));
  PreTokenizerStep bytes{.kind = PreTokenizerStep::Kind::kByteLevel};
  if (space.value_or(false)) bytes.prepend = PreTokenizerStep::Prepend::kFirst;
  split.steps.push_back(std::move(bytes));
  parts.pre_tokenizer = PreTokenizer(std::move(split.steps));
  parts.decoder = TokenDecoder({{.kind = DecoderStep::Kind::kByteLevel}});
  MOXIE_TRY(AddEnds(metadata, split.adds_bos, &parts));
  return parts;
}

Result<TokenizerParts> LoadScored(const GgufMetadata& metadata, const GgufVocabulary& source,
                                  bool unigram) {
  SentencePieceModel model;
  model.unigram = unigram;
  model.byte_fallback = std::count(source.types.begin(), source.types.end(), kByte) == 256;
  if (source.scores.empty()) return BadKey("scores", "an array of numbers, one a token");
  for (size_t i = 0; i < source.pieces.size(); ++i) {
    SentencePieceModel::Piece piece;
    piece.text = source.pieces[i];
    piece.score = static_cast<float>(source.scores[i]);
    const int64_t type = source.types[i];
    if (type < kNormal || type > kByte) return BadKey("token_type", "values from 1 to 6");
    // Added tokens are cut out before, so the model itself must not look for them.
    piece.type = type == kUserDefined ? SentencePieceModel::Type::kControl
                                      : static_cast<SentencePieceModel::Type>(type);
    model.pieces.push_back(std::move(piece));
  }
  MOXIE_TRY_ASSIGN(const auto prefix, metadata.Boolean("tokenizer.ggml.add_space_prefix"));
  MOXIE_TRY_ASSIGN(const auto squeeze, metadata.Boolean("tokenizer.ggml.remove_extra_whitespaces"));
  model.add_dummy_prefix = prefix.value_or(true);
  model.remove_extra_whitespaces = squeeze.value_or(false);
  MOXIE_TRY_ASSIGN(const auto chars_map, metadata.Integers("tokenizer.ggml.precompiled_charsmap"));
  for (const int64_t byte : chars_map.value_or(std::vector<int64_t>())) {
    model.chars_map.push_back(static_cast<char>(byte));
  }
  MOXIE_TRY_ASSIGN(TokenizerParts parts, MakeSentencePiece(std::move(model)));
  MOXIE_TRY_ASSIGN(const bool phi3, IsPhi3(metadata));
  parts.added.clear();
  parts.special.clear();
  AddTokens(source, phi3, &parts);
  parts.bos.reset();
  parts.eos.reset();
  parts.stops.clear();
  parts.prefix.clear();
  MOXIE_TRY(AddEnds(metadata, !unigram, &parts));
  return parts;
}

}  // namespace

Result<TokenizerParts> LoadGgufTokenizer(const GgufMetadata& metadata) {
  MOXIE_TRY_ASSIGN(const auto kind, metadata.Text("tokenizer.ggml.model"));
  if (!kind) return BadKey("model", "the tokenizer's kind, such as \"llama\" or \"gpt2\"");
  MOXIE_TRY_ASSIGN(GgufVocabulary vocabulary, ReadVocabulary(metadata));
  if (*kind == "gpt2") return LoadByteLevel(metadata, std::move(vocabulary));
  if (*kind == "llama") return LoadScored(metadata, vocabulary, false);
  if (*kind == "t5") return LoadScored(metadata, vocabulary, true);
  return Error{ErrorCode::kUnsupported, "tokenizer.ggml.model: \"" + kind->substr(0, 60) +
                                            "\" is not supported, only gpt2, llama and t5 are"};
}

}  // namespace moxie
