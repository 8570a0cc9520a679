#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "moxie/result.h"
#include "tokenizer/piece_trie.h"
#include "tokenizer/regex.h"
#include "tokenizer/unicode.h"

namespace moxie {

/// SentencePiece's precompiled_charsmap: a double-array trie (Darts) from character sequences to
/// what they become. Immutable.
class CharsMap {
 public:
  /// Errors: kInvalidInput for a blob whose sizes contradict each other.
  static Result<CharsMap> Parse(std::string_view blob);

  struct Match {
    size_t length = 0;  ///< bytes of the text replaced; 0: none
    std::string_view replacement;
  };
  Match Longest(std::string_view text) const { return Search(text, true); }
  Match Shortest(std::string_view text) const { return Search(text, false); }

 private:
  Match Search(std::string_view text, bool longest) const;

  std::vector<uint32_t> units_;
  std::string replacements_;  // Each ends with a zero byte.
};

/// SentencePiece's normaliser (its README, "Normalization"): maps characters, squeezes spaces,
/// adds the dummy prefix, writes spaces as U+2581.
struct SentencePieceNormalizer {
  std::shared_ptr<const CharsMap> chars_map;  ///< may be null
  PieceTrie user_defined;                     ///< left as they are
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = false;
  bool escape_whitespaces = true;
  bool treat_whitespace_as_suffix = false;

  std::string Apply(std::string_view text) const;
};

/// One step of tokenizer.json's normalizer, or SentencePiece's as a whole.
struct NormalizerStep {
  enum class Kind : uint8_t {
    kNfc,
    kNfd,
    kNfkc,
    kNfkd,
    kLowercase,
    kStripAccents,
    kStrip,
    kPrepend,
    kReplace,
    kPrecompiled,
    kNmt,
    kByteLevel,
    kSentencePiece,
  };
  Kind kind = Kind::kNfc;
  bool strip_left = false;
  bool strip_right = false;
  std::string text = {};     ///< what is prepended, or put in place
  std::string pattern = {};  ///< what is replaced, where it is a literal
  std::shared_ptr<const Regex> regex = {};
  std::shared_ptr<const CharsMap> chars_map = {};
  std::shared_ptr<const SentencePieceNormalizer> sentence_piece = {};

  std::string Apply(std::string_view text) const;
};

/// Steps in their order. Text is well-formed UTF-8, but for kSentencePiece, which takes any bytes.
using Normalizer = std::vector<NormalizerStep>;
std::string Apply(const Normalizer& normalizer, std::string_view text);

/// Every occurrence of a literal pattern replaced, leftmost first.
std::string ReplaceAll(std::string_view text, std::string_view pattern, std::string_view by);
std::string ReplaceAll(std::string_view text, const Regex& pattern, std::string_view by);

/// GPT-2's stand-ins for bytes: every byte has a printable character (0x20 is U+0120).
char32_t ByteToCharacter(uint8_t byte);
std::optional<uint8_t> CharacterToByte(char32_t character);
std::string BytesToCharacters(std::string_view bytes);
/// The bytes that `text` stands for, or nothing if a character of it is no byte's stand-in.
std::optional<std::string> CharactersToBytes(std::string_view text);

}  // namespace moxie
