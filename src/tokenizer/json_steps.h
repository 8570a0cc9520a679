#pragma once

#include <nlohmann/json_fwd.hpp>
#include <vector>

#include "moxie/result.h"
#include "tokenizer/decoder.h"
#include "tokenizer/normalizer.h"
#include "tokenizer/pretokenizer.h"

namespace moxie {

/// The steps of tokenizer.json's members of these names; null gives none.
/// Errors: kUnsupported for a type that is not handled, kInvalidInput.
Result<Normalizer> ParseNormalizer(const nlohmann::json* json);
Result<std::vector<PreTokenizerStep>> ParsePreTokenizer(const nlohmann::json* json);
Result<std::vector<DecoderStep>> ParseDecoder(const nlohmann::json* json);

}  // namespace moxie
