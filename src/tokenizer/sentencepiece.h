#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "moxie/result.h"
#include "tokenizer/pipeline.h"

namespace moxie {

/// What SentencePiece's ModelProto says (sentencepiece_model.proto), as far as encoding needs it.
struct SentencePieceModel {
  enum class Type : uint8_t { kNormal = 1, kUnknown, kControl, kUserDefined, kUnused, kByte };
  struct Piece {
    std::string text;
    float score = 0;
    Type type = Type::kNormal;
  };
  std::vector<Piece> pieces;
  bool unigram = true;
  bool byte_fallback = false;
  bool treat_whitespace_as_suffix = false;
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
  bool escape_whitespaces = true;
  std::string chars_map;
  int64_t bos_id = 1;  ///< -1: none
  int64_t eos_id = 2;
};

/// Reads the protobuf wire format, bounded by the input's size.
/// Errors: kInvalidInput with the byte's place; kUnsupported for word and character models.
Result<SentencePieceModel> ParseSentencePieceModel(std::string_view bytes);

/// Errors: kInvalidInput for pieces given twice, no unknown piece, or a broken character map.
Result<TokenizerParts> MakeSentencePiece(SentencePieceModel model);

}  // namespace moxie
