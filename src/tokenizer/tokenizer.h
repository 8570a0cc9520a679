#pragma once

#include <memory>

#include "formats/model_files.h"
#include "moxie/result.h"
#include "moxie/tokenizer.h"

namespace moxie {

/// Reads the tokenizer of a GGUF's metadata, or of tokenizer.json, tokenizer.model or tekken.json
/// in a folder. The result does not refer to `files` afterwards.
Result<std::unique_ptr<Tokenizer>> LoadTokenizer(const ModelFiles& files);

}  // namespace moxie
