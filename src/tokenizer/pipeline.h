#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "moxie/result.h"
#include "moxie/tokenizer.h"
#include "tokenizer/added_tokens.h"
#include "tokenizer/decoder.h"
#include "tokenizer/normalizer.h"
#include "tokenizer/pretokenizer.h"
#include "tokenizer/token_model.h"
#include "tokenizer/vocabulary.h"

namespace moxie {

/// What a tokenizer is made of; each loader fills it from its file's kind.
struct TokenizerParts {
  std::shared_ptr<const Vocabulary> vocabulary;  ///< every piece, added tokens included
  std::unique_ptr<TokenModel> model;
  std::vector<AddedToken> added;
  Normalizer normalizer;
  PreTokenizer pre_tokenizer;
  TokenDecoder decoder;
  std::vector<TokenId> prefix;  ///< put before a text where special tokens are added
  std::vector<TokenId> suffix;
  std::vector<bool> special;  ///< by id
  std::optional<TokenId> bos;
  std::optional<TokenId> eos;
  std::vector<TokenId> stops;
  /// Ill-formed UTF-8 becomes U+FFFD before anything else; else the normalizer takes any bytes.
  bool replace_invalid_utf8 = true;
};

/// Added tokens are cut out of the raw text, the rest is normalised, added tokens that look at
/// normalised text are cut out, the rest is split into words, and the model turns words into ids.
class PipelineTokenizer final : public Tokenizer {
 public:
  explicit PipelineTokenizer(TokenizerParts parts);

  std::vector<TokenId> Encode(std::string_view text, const EncodeOptions& options) const override;
  std::string Decode(const std::vector<TokenId>& ids, bool skip_special) const override;
  std::string Piece(TokenId id) const override;
  std::string Bytes(TokenId id) const override;
  std::string FirstBytes(TokenId id) const override;
  int32_t vocab_size() const override { return parts_.vocabulary->size(); }
  std::optional<TokenId> bos() const override { return parts_.bos; }
  std::optional<TokenId> eos() const override { return parts_.eos; }
  std::optional<TokenId> FindPiece(std::string_view piece) const override;
  bool IsSpecial(TokenId id) const override;
  bool adds_bos() const override;
  const std::vector<TokenId>& stop_tokens() const override { return parts_.stops; }

 private:
  void EncodeOrdinary(std::string_view text, bool at_start, bool parse_special,
                      Workspace* workspace, std::vector<TokenId>* ids) const;
  /// The piece as decoding sees it: added tokens in their normalised form.
  const std::string* DecodedPiece(TokenId id) const;

  TokenizerParts parts_;
  AddedTokenMatcher raw_tokens_;
  AddedTokenMatcher normalized_tokens_;
  std::unordered_map<TokenId, std::string> normalized_pieces_;
};

/// Adds `id` if it is a token and not there yet.
void AddStop(const Vocabulary& vocabulary, int64_t id, std::vector<TokenId>* stops);
/// Adds the tokens that published vocabularies end a turn with, for files that name none.
void AddKnownStops(const Vocabulary& vocabulary, std::vector<TokenId>* stops);

}  // namespace moxie
