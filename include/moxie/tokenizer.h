#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "moxie/result.h"

namespace moxie {

using TokenId = int32_t;

struct EncodeOptions {
  bool add_special = true;    ///< what the tokenizer adds around a text (BOS, for some EOS)
  bool parse_special = true;  ///< text of special tokens becomes those tokens
};

/// Text to token ids and back. Immutable; safe to call concurrently.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  /// Any bytes encode; invalid UTF-8 is encoded as the vocabulary allows (bytes or U+FFFD, as the
  /// reference implementation of the vocabulary's kind does). Linear in the text's length.
  virtual std::vector<TokenId> Encode(std::string_view text,
                                      const EncodeOptions& options) const = 0;

  /// The bytes of a sequence of ids; ids that the vocabulary lacks decode to nothing.
  virtual std::string Decode(const std::vector<TokenId>& ids, bool skip_special) const = 0;

  /// The token's text as the vocabulary's file writes it ("▁the", "Ġthe", "<0x0A>").
  virtual std::string Piece(TokenId id) const = 0;

  /// The bytes that the token adds to a text that has begun ("▁the" -> " the").
  virtual std::string Bytes(TokenId id) const = 0;

  /// The same for the token that a text begins with ("▁the" -> "the" where the vocabulary's text
  /// starts with a space that was never written).
  virtual std::string FirstBytes(TokenId id) const { return Bytes(id); }

  virtual int32_t vocab_size() const = 0;
  virtual std::optional<TokenId> bos() const = 0;
  virtual std::optional<TokenId> eos() const = 0;
  virtual std::optional<TokenId> FindPiece(std::string_view piece) const = 0;
  virtual bool IsSpecial(TokenId id) const = 0;  ///< control tokens, not shown in answers
  virtual bool adds_bos() const = 0;
  /// Tokens that end a turn: EOS and the family's end-of-turn tokens (<|im_end|>, <|eot_id|>),
  /// from generation_config.json or the GGUF's metadata.
  virtual const std::vector<TokenId>& stop_tokens() const = 0;
};

/// The tokenizer of a MODEL path alone: a GGUF's, or tokenizer.json, tokenizer.model or tekken.json
/// in a folder. No weight is read.
///
/// Errors: kNotFound, kIo; kInvalidInput and kUnsupported with a sentence that starts with the
/// file's name.
Result<std::unique_ptr<Tokenizer>> OpenTokenizer(const std::string& path);

/// Turns a stream of token ids into a stream of text that never ends within a UTF-8 character
/// (bytes that can no longer become a character come out as U+FFFD).
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer, bool skip_special = true);
  std::string Add(TokenId id);  ///< the text that this token completes; may be empty
  std::string Finish();         ///< what was held back

 private:
  const Tokenizer& tokenizer_;
  bool skip_special_;
  bool first_ = true;
  std::string pending_;
};

}  // namespace moxie
