#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "formats/model_files.h"
#include "moxie/result.h"
#include "tokenizer/pipeline.h"

namespace moxie {

/// What the files beside a tokenizer say about it; all of it may be absent.
struct TokenizerHints {
  std::optional<std::string> bos_piece;  ///< tokenizer_config.json, special_tokens_map.json
  std::optional<std::string> eos_piece;
  std::optional<bool> add_bos;
  std::optional<bool> add_eos;
  std::optional<int64_t> bos_id;  ///< generation_config.json, config.json
  std::vector<int64_t> eos_ids;
  std::vector<AddedToken> added;  ///< tokenizer_config.json's added_tokens_decoder
};

/// Errors: kInvalidInput with the file and what was expected.
Result<TokenizerHints> ReadTokenizerHints(const ModelFiles& files);

/// Reads tokenizer.json's text (Hugging Face's `tokenizers`).
Result<TokenizerParts> LoadTokenizerJson(std::string_view text);

/// Reads tokenizer.model's bytes (SentencePiece's ModelProto).
Result<TokenizerParts> LoadSentencePiece(std::string_view bytes);

/// Reads tekken.json's text (Mistral's byte-level vocabularies).
Result<TokenizerParts> LoadTekken(std::string_view text);

/// Reads a GGUF's tokenizer.* keys.
Result<TokenizerParts> LoadGgufTokenizer(const GgufMetadata& metadata);

/// A vocabulary with the tokens that it lacks. Errors: as of
/// Vocabulary::Create.
Result<std::shared_ptr<const Vocabulary>> WithAddedTokens(
    const std::shared_ptr<const Vocabulary>& vocabulary, const std::vector<AddedToken>& added);

/// Gives a vocabulary whose file cannot name added tokens (tokenizer.model)
/// those of the hints. Errors: kInvalidInput for a token whose id is another
/// piece's.
Result<void> AddHintedTokens(const TokenizerHints& hints, TokenizerParts* parts);

/// Adds what the hints say to the parts of a folder's tokenizer: BOS, EOS and
/// stop tokens. `template_adds`: the file itself said what is put around a
/// text.
void ApplyHints(const TokenizerHints& hints, bool template_adds, TokenizerParts* parts);

}  // namespace moxie
