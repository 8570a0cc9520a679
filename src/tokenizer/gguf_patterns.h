#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "moxie/result.h"
#include "tokenizer/pretokenizer.h"

namespace moxie {

/// What a GGUF's tokenizer.ggml.pre stands for.
struct GgufSplit {
  std::vector<PreTokenizerStep> steps;     ///< each pattern's matches and the gaps become words
  std::vector<std::string_view> patterns;  ///< of the steps
  bool ignore_merges = false;
  bool nfc = false;       ///< the vocabulary's own tokenizer.json normalises first
  bool adds_bos = false;  ///< where tokenizer.ggml.add_bos_token does not say
};

/// Errors: kUnsupported for a name that is not known: a wrong split gives wrong tokens silently.
Result<GgufSplit> FindGgufSplit(std::string_view name);

/// The name of the split with these patterns, of several the one that agrees in the rest, too, or
/// nothing where none has them.
std::optional<std::string_view> NameGgufSplit(std::span<const std::string> patterns, bool nfc,
                                              bool ignore_merges);

}  // namespace moxie
