#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/function_ref.h"
#include "tokenizer/regex.h"

namespace moxie {

/// One step of tokenizer.json's pre_tokenizer: cuts a text into words, or rewrites it first.
struct PreTokenizerStep {
  enum class Kind : uint8_t {
    kSplit,            ///< at the matches of `regex`, or of the literal `text`
    kByteLevel,        ///< GPT-2's split if `use_regex`; then bytes become their characters
    kMetaspace,        ///< spaces become `text`, which starts each word
    kDigits,           ///< numbers apart, one by one if `individual`
    kWhitespace,       ///< words and runs of punctuation
    kWhitespaceSplit,  ///< what stands between spaces
    kPunctuation,
  };
  enum class Behavior : uint8_t {
    kRemoved,
    kIsolated,
    kMergedWithPrevious,
    kMergedWithNext,
    kContiguous,
  };
  enum class Prepend : uint8_t { kNever, kFirst, kAlways };

  Kind kind = Kind::kSplit;
  Behavior behavior = Behavior::kIsolated;
  Prepend prepend = Prepend::kNever;
  bool invert = false;
  bool use_regex = false;
  bool individual = false;
  bool split = true;
  std::string text = {};
  std::shared_ptr<const Regex> regex = {};
};

/// Steps in their order. Immutable.
class PreTokenizer {
 public:
  explicit PreTokenizer(std::vector<PreTokenizerStep> steps = {});

  /// Calls `word` for each word of `text` (well-formed UTF-8), in order. `at_start`: the text is
  /// the beginning of what is encoded, where some vocabularies prepend a space.
  void Apply(std::string_view text, bool at_start, FunctionRef<void(std::string_view)> word) const;

 private:
  using Words = FunctionRef<void(std::string_view)>;
  void ApplyFrom(size_t step, std::string_view text, bool at_start, Words word) const;
  void Cut(const PreTokenizerStep& step, std::string_view text, Words word) const;
  void CutMetaspace(const PreTokenizerStep& step, std::string_view text, bool at_start,
                    Words word) const;

  std::vector<PreTokenizerStep> steps_;
  std::shared_ptr<const Regex> gpt2_;   // For kByteLevel with use_regex.
  std::shared_ptr<const Regex> words_;  // For kWhitespace.
};

/// GPT-2's pattern, which ByteLevel uses (openai/gpt-2, src/encoder.py).
inline constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

}  // namespace moxie
