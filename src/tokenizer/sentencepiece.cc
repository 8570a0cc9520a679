#include "tokenizer/sentencepiece.h"

#include <algorithm>
#include <cstring>

#include "tokenizer/bpe.h"
#include "tokenizer/loaders.h"
#include "tokenizer/unigram.h"

namespace moxie {

namespace {

using Type = SentencePieceModel::Type;

/// The fields of one protobuf message (protobuf.dev/programming-guides/encoding).
class MessageReader {
 public:
  MessageReader(std::string_view bytes, const char* name) : bytes_(bytes), name_(name) {}

  bool AtEnd() const { return at_ == bytes_.size(); }
  uint32_t field() const { return field_; }
  uint64_t number() const { return number_; }        ///< of a varint or fixed field
  std::string_view bytes() const { return value_; }  ///< of a length-delimited field
  bool is_bytes() const { return wire_type_ == 2; }
  bool is_varint() const { return wire_type_ == 0; }
  bool is_fixed32() const { return wire_type_ == 5; }

  /// Reads the next field.
  Result<void> Next() {
    MOXIE_TRY_ASSIGN(const uint64_t key, Varint());
    field_ = static_cast<uint32_t>(key >> 3);
    wire_type_ = static_cast<int>(key & 7);
    value_ = {};
    number_ = 0;
    switch (wire_type_) {
      case 0: {
        MOXIE_TRY_ASSIGN(number_, Varint());
        return {};
      }
      case 1:
        return Fixed(8);
      case 2: {
        MOXIE_TRY_ASSIGN(const uint64_t length, Varint());
        if (length > bytes_.size() - at_) return Broken("a field that ends beyond the message");
        value_ = bytes_.substr(at_, length);
        at_ += length;
        return {};
      }
      case 5:
        return Fixed(4);
      default:
        return Broken("wire type " + std::to_string(wire_type_));
    }
  }

 private:
  Error Broken(const std::string& what) const {
    return Error{ErrorCode::kInvalidInput, std::string("tokenizer.model: ") + name_ +
                                               " is not a SentencePiece model's: " + what +
                                               " at byte " + std::to_string(at_)};
  }
  Result<uint64_t> Varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (AtEnd()) return Broken("a number cut short");
      const auto byte = static_cast<unsigned char>(bytes_[at_++]);
      value |= static_cast<uint64_t>(byte & 0x7F) << shift;
      if (byte < 0x80) return value;
    }
    return Broken("a number of more than ten bytes");
  }
  Result<void> Fixed(size_t size) {
    if (bytes_.size() - at_ < size) return Broken("a number cut short");
    std::memcpy(&number_, bytes_.data() + at_, size);
    at_ += size;
    return {};
  }

  std::string_view bytes_;
  const char* name_;
  size_t at_ = 0;
  uint32_t field_ = 0;
  int wire_type_ = 0;
  uint64_t number_ = 0;
  std::string_view value_;
};

float FloatOf(uint64_t bits) {
  const auto low = static_cast<uint32_t>(bits);
  float value;
  std::memcpy(&value, &low, sizeof value);
  return value;
}

Result<SentencePieceModel::Piece> ParsePiece(std::string_view bytes) {
  SentencePieceModel::Piece piece;
  for (MessageReader reader(bytes, "a piece"); !reader.AtEnd();) {
    MOXIE_TRY(reader.Next());
    if (reader.field() == 1 && reader.is_bytes()) piece.text = reader.bytes();
    if (reader.field() == 2 && reader.is_fixed32()) piece.score = FloatOf(reader.number());
    if (reader.field() == 3 && reader.is_varint()) {
      if (reader.number() < 1 || reader.number() > 6) {
        return Error{ErrorCode::kInvalidInput, "tokenizer.model: a piece's type is " +
                                                   std::to_string(reader.number()) +
                                                   ", but must be 1..6"};
      }
      piece.type = static_cast<Type>(reader.number());
    }
  }
  if (!(std::abs(piece.score) < 1e30f)) {
    return Error{ErrorCode::kInvalidInput, "tokenizer.model: a piece's score is not a number"};
  }
  return piece;
}

Result<void> ParseTrainer(std::string_view bytes, SentencePieceModel* model) {
  for (MessageReader reader(bytes, "trainer_spec"); !reader.AtEnd();) {
    MOXIE_TRY(reader.Next());
    if (!reader.is_varint()) continue;
    const uint64_t value = reader.number();
    // Ids are int32; negative ones are written in ten bytes.
    const auto id = static_cast<int64_t>(static_cast<int32_t>(value));
    switch (reader.field()) {
      case 3:
        if (value != 1 && value != 2) {
          return Error{ErrorCode::kUnsupported,
                       "tokenizer.model: only unigram and BPE models are supported"};
        }
        model->unigram = value == 1;
        break;
      case 24:
        model->treat_whitespace_as_suffix = value != 0;
        break;
      case 35:
        model->byte_fallback = value != 0;
        break;
      case 41:
        model->bos_id = id;
        break;
      case 42:
        model->eos_id = id;
        break;
      default:
        break;
    }
  }
  return {};
}

Result<void> ParseNormalizerSpec(std::string_view bytes, SentencePieceModel* model) {
  for (MessageReader reader(bytes, "normalizer_spec"); !reader.AtEnd();) {
    MOXIE_TRY(reader.Next());
    const bool value = reader.number() != 0;
    if (reader.field() == 2 && reader.is_bytes()) model->chars_map = reader.bytes();
    if (reader.field() == 3 && reader.is_varint()) model->add_dummy_prefix = value;
    if (reader.field() == 4 && reader.is_varint()) model->remove_extra_whitespaces = value;
    if (reader.field() == 5 && reader.is_varint()) model->escape_whitespaces = value;
  }
  return {};
}

/// For each piece its place by score, best first; equal scores share a place.
std::vector<uint32_t> RanksOf(const SentencePieceModel& model) {
  std::vector<float> scores;
  for (const auto& piece : model.pieces) scores.push_back(piece.score);
  std::sort(scores.begin(), scores.end(), std::greater<>());
  scores.erase(std::unique(scores.begin(), scores.end()), scores.end());
  std::vector<uint32_t> ranks;
  for (const auto& piece : model.pieces) {
    const bool merges = piece.type == Type::kNormal || piece.type == Type::kUserDefined ||
                        piece.type == Type::kUnused;
    const auto place =
        std::lower_bound(scores.begin(), scores.end(), piece.score, std::greater<>());
    ranks.push_back(merges ? static_cast<uint32_t>(place - scores.begin()) : UINT32_MAX);
  }
  return ranks;
}

std::vector<bool> PiecesOf(const SentencePieceModel& model, std::initializer_list<Type> types) {
  std::vector<bool> set;
  for (const auto& piece : model.pieces) {
    set.push_back(std::find(types.begin(), types.end(), piece.type) != types.end());
  }
  return set;
}

PieceTrie UserDefinedTrie(const SentencePieceModel& model) {
  std::vector<std::pair<std::string_view, TokenId>> pieces;
  for (size_t i = 0; i < model.pieces.size(); ++i) {
    if (model.pieces[i].type != Type::kUserDefined) continue;
    pieces.emplace_back(model.pieces[i].text, static_cast<TokenId>(i));
  }
  return PieceTrie(std::move(pieces));
}

std::unique_ptr<TokenModel> MakeModel(const SentencePieceModel& model,
                                      std::shared_ptr<const Vocabulary> vocabulary,
                                      TokenId unknown) {
  if (model.unigram) {
    std::vector<double> scores;
    for (const auto& piece : model.pieces) scores.push_back(piece.score);
    UnigramModel::Options options;
    options.unknown = unknown;
    options.byte_fallback = model.byte_fallback;
    options.user_defined = PiecesOf(model, {Type::kUserDefined});
    options.unused = PiecesOf(model, {Type::kUnused});
    options.reserved = PiecesOf(model, {Type::kControl, Type::kUnknown, Type::kByte});
    return std::make_unique<UnigramModel>(std::move(vocabulary), std::move(scores),
                                          std::move(options));
  }
  BpeModel::Options options;
  options.unknown = unknown;
  options.fuse_unknown = true;
  options.byte_fallback = model.byte_fallback;
  options.unknown_last = true;
  options.frozen = UserDefinedTrie(model);
  options.unused = PiecesOf(model, {Type::kUnused});
  BpeModel::ExtraCharacters extra;
  const auto merges = BpeModel::MergesFromRanks(*vocabulary, RanksOf(model), &extra);
  return std::make_unique<BpeModel>(std::move(vocabulary), merges, std::move(options), extra);
}

/// As Hugging Face decodes Llama's vocabularies.
TokenDecoder MakeDecoder(const SentencePieceModel& model) {
  std::vector<DecoderStep> steps = {
      {.kind = DecoderStep::Kind::kReplace, .pattern = "\xE2\x96\x81", .text = " "},
      {.kind = DecoderStep::Kind::kByteFallback},
      {.kind = DecoderStep::Kind::kFuse}};
  if (model.add_dummy_prefix && !model.treat_whitespace_as_suffix) {
    steps.push_back({.kind = DecoderStep::Kind::kStrip, .text = " ", .start = 1});
  }
  return TokenDecoder(std::move(steps));
}

void AddSpecialTokens(const SentencePieceModel& model, TokenizerParts* parts) {
  parts->special = PiecesOf(model, {Type::kControl, Type::kUnknown});
  for (size_t i = 0; i < model.pieces.size(); ++i) {
    if (!parts->special[i]) continue;
    AddedToken token;
    token.id = static_cast<TokenId>(i);
    token.content = model.pieces[i].text;
    token.special = true;
    parts->added.push_back(std::move(token));
  }
  const auto control = [&](int64_t id) -> std::optional<TokenId> {
    if (id < 0 || id >= static_cast<int64_t>(model.pieces.size())) return std::nullopt;
    if (model.pieces[static_cast<size_t>(id)].type != Type::kControl) return std::nullopt;
    return static_cast<TokenId>(id);
  };
  parts->bos = control(model.bos_id);
  parts->eos = control(model.eos_id);
}

}  // namespace

Result<SentencePieceModel> ParseSentencePieceModel(std::string_view bytes) {
  SentencePieceModel model;
  for (MessageReader reader(bytes, "the model"); !reader.AtEnd();) {
    MOXIE_TRY(reader.Next());
    if (!reader.is_bytes()) continue;
    if (reader.field() == 1) {
      MOXIE_TRY_ASSIGN(SentencePieceModel::Piece piece, ParsePiece(reader.bytes()));
      model.pieces.push_back(std::move(piece));
      if (model.pieces.size() > static_cast<size_t>(kMaxVocabularySize)) {
        return Error{ErrorCode::kInvalidInput, "tokenizer.model: more than " +
                                                   std::to_string(kMaxVocabularySize) + " pieces"};
      }
    } else if (reader.field() == 2) {
      MOXIE_TRY(ParseTrainer(reader.bytes(), &model));
    } else if (reader.field() == 3) {
      MOXIE_TRY(ParseNormalizerSpec(reader.bytes(), &model));
    }
  }
  return model;
}

Result<TokenizerParts> MakeSentencePiece(SentencePieceModel model) {
  std::optional<TokenId> unknown;
  std::vector<std::pair<std::string, int64_t>> pieces;
  for (size_t i = 0; i < model.pieces.size(); ++i) {
    const auto& piece = model.pieces[i];
    if (piece.text.empty()) {
      return Error{ErrorCode::kInvalidInput,
                   "vocabulary: token " + std::to_string(i) + " must not be an empty piece"};
    }
    if (piece.type == Type::kUnknown && !unknown) unknown = static_cast<TokenId>(i);
    pieces.emplace_back(piece.text, static_cast<int64_t>(i));
  }
  if (!unknown) {
    return Error{ErrorCode::kInvalidInput, "vocabulary: a piece of the unknown type is expected"};
  }
  TokenizerParts parts;
  MOXIE_TRY_ASSIGN(Vocabulary vocabulary, Vocabulary::Create(std::move(pieces)));
  parts.vocabulary = std::make_shared<const Vocabulary>(std::move(vocabulary));
  auto normalizer = std::make_shared<SentencePieceNormalizer>();
  if (!model.chars_map.empty()) {
    MOXIE_TRY_ASSIGN(CharsMap map, CharsMap::Parse(model.chars_map));
    normalizer->chars_map = std::make_shared<const CharsMap>(std::move(map));
  }
  normalizer->user_defined = UserDefinedTrie(model);
  normalizer->add_dummy_prefix = model.add_dummy_prefix;
  normalizer->remove_extra_whitespaces = model.remove_extra_whitespaces;
  normalizer->escape_whitespaces = model.escape_whitespaces;
  normalizer->treat_whitespace_as_suffix = model.treat_whitespace_as_suffix;
  NormalizerStep step{};
  step.kind = NormalizerStep::Kind::kSentencePiece;
  step.sentence_piece = std::move(normalizer);
  parts.normalizer.push_back(std::move(step));
  parts.model = MakeModel(model, parts.vocabulary, *unknown);
  parts.decoder = MakeDecoder(model);
  parts.replace_invalid_utf8 = false;
  AddSpecialTokens(model, &parts);
  return parts;
}

Result<TokenizerParts> LoadSentencePiece(std::string_view bytes) {
  MOXIE_TRY_ASSIGN(SentencePieceModel model, ParseSentencePieceModel(bytes));
  return MakeSentencePiece(std::move(model));
}

}  // namespace moxie
