#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/regex.h"

namespace moxie {

/// One step of tokenizer.json's decoder.
struct DecoderStep {
  enum class Kind : uint8_t { kByteLevel, kByteFallback, kFuse, kMetaspace, kReplace, kStrip };
  Kind kind = Kind::kFuse;
  std::string pattern = {};  ///< replaced literal; Metaspace: its space character
  std::string text = {};     ///< the replacement; Strip: the stripped character
  std::shared_ptr<const Regex> regex = {};
  bool strips_first = false;  ///< Metaspace: the first token's space characters are dropped
  size_t start = 0;           ///< Strip: at most so many characters at the start
  size_t stop = 0;
};

/// Pieces to text, as Hugging Face's `tokenizers` does it; without steps, pieces are words with
/// spaces between them. Immutable.
class TokenDecoder {
 public:
  explicit TokenDecoder(std::vector<DecoderStep> steps = {}) : steps_(std::move(steps)) {}

  std::string Decode(std::vector<std::string> pieces) const;

  /// The bytes that a piece adds to a text: that has begun, or that it begins.
  std::string PieceBytes(std::string_view piece, bool begins) const;

 private:
  static void ApplyStep(const DecoderStep& step, std::vector<std::string>* pieces);

  std::vector<DecoderStep> steps_;
};

/// The byte of a piece such as <0x0A>, or -1.
int ByteOfPiece(std::string_view piece);

}  // namespace moxie
