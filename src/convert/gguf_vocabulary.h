#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "formats/model_files.h"
#include "moxie/result.h"

namespace moxie {

/// A tokenizer as a GGUF's arrays say it.
struct GgufVocabulary {
  /// tokenizer.ggml.token_type
  enum Type : int32_t { kNormal = 1, kUnknown, kControl, kUserDefined, kUnused, kByte };

  std::string model;  ///< "gpt2", "llama" or "t5"
  std::string pre;    ///< the name of gpt2's way to split text
  std::vector<std::string> tokens;
  std::vector<float> scores;   ///< of "llama" and "t5"
  std::vector<int32_t> types;  ///< of Type
  std::vector<std::string> merges;
  bool add_space_prefix = true;  ///< of "llama" and "t5"
  bool remove_extra_whitespaces = false;
  std::vector<uint8_t> chars_map;

  /// Places a token, with unused ones up to it.
  void Set(int64_t id, std::string text, float score, Type type);
};

/// Reads a folder's tokenizer.json, tokenizer.model (with the tokens that tokenizer_config.json
/// adds) or tekken.json. An empty model where the folder has none of them.
///
/// Errors: kInvalidInput; kUnsupported where GGUF has no name for it.
Result<GgufVocabulary> ReadFolderVocabulary(const ModelFiles& files);

/// Reads tokenizer.json's text; nothing where `byte_level_only` and it is Llama's older kind, whose
/// tokenizer.model is the better source.
///
/// Errors: as above.
Result<std::optional<GgufVocabulary>> ReadTokenizerJson(std::string_view text,
                                                        bool byte_level_only);

}  // namespace moxie
