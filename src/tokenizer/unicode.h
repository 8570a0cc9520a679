#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace moxie {

/// Unicode general categories, in the order of the generated table.
// clang-format off
enum class Category : uint8_t {
  kCn, kLu, kLl, kLt, kLm, kLo, kMn, kMc, kMe, kNd, kNl, kNo, kPc, kPd, kPs,
  kPe, kPi, kPf, kPo, kSm, kSc, kSk, kSo, kZs, kZl, kZp, kCc, kCf, kCo, kCs,
};
// clang-format on

/// A set of categories: bit c stands for Category c.
using CategorySet = uint32_t;
constexpr CategorySet SetOf(Category c) { return CategorySet{1} << static_cast<uint32_t>(c); }
constexpr CategorySet SetOf(Category first, Category last) {
  return (SetOf(last) << 1) - SetOf(first);
}
constexpr CategorySet kLetters = SetOf(Category::kLu, Category::kLo);
constexpr CategorySet kMarks = SetOf(Category::kMn, Category::kMe);
constexpr CategorySet kNumbers = SetOf(Category::kNd, Category::kNo);
constexpr CategorySet kPunctuations = SetOf(Category::kPc, Category::kPo);
constexpr CategorySet kSymbols = SetOf(Category::kSm, Category::kSo);
constexpr CategorySet kSeparators = SetOf(Category::kZs, Category::kZp);
constexpr CategorySet kOthers = SetOf(Category::kCn) | SetOf(Category::kCc, Category::kCs);

constexpr size_t kCategoryRunCount = 4099;
extern const std::array<uint32_t, kCategoryRunCount> kCategoryRuns;

Category CategoryOf(char32_t c);
inline bool IsIn(CategorySet set, char32_t c) { return (set & SetOf(CategoryOf(c))) != 0; }

/// Property White_Space.
bool IsWhitespace(char32_t c);
/// `\w`: letters, marks, decimal digits, connectors, letter numbers and enclosed letters.
bool IsWord(char32_t c);
/// The one-character lower case ("İ" is left to the caller).
char32_t ToLower(char32_t c);
char32_t ToUpper(char32_t c);

constexpr char32_t kReplacementCharacter = 0xFFFD;
constexpr std::string_view kReplacementUtf8 = "\xEF\xBF\xBD";

/// One decoded character: its length in bytes, and whether the bytes were well-formed.
struct DecodedCharacter {
  char32_t code_point = 0;
  uint32_t length = 0;
  bool valid = false;
};

/// Decodes the character at `text[at]` (at < text.size()). For ill-formed bytes the code point is
/// U+FFFD and `length` counts the maximal subpart (Unicode 16, section 3.9, U+FFFD substitution).
DecodedCharacter DecodeUtf8(std::string_view text, size_t at);

/// For text that is known to be well-formed.
inline size_t CharacterLength(char first_byte) {
  const auto b = static_cast<unsigned char>(first_byte);
  return b < 0x80 ? 1 : b < 0xE0 ? 2 : b < 0xF0 ? 3 : 4;
}

void AppendUtf8(char32_t c, std::string* out);
bool IsValidUtf8(std::string_view text);
/// Each maximal ill-formed subpart becomes U+FFFD, as in Python's and Rust's lossy decoding.
std::string ReplaceInvalidUtf8(std::string_view text);

enum class NormalForm : uint8_t { kNfc, kNfd, kNfkc, kNfkd };

/// Unicode normalisation of well-formed UTF-8, in O(n log n) also for long runs of marks, by
/// Unicode 9.0 as in Hugging Face's `tokenizers`.
std::string Normalize(std::string_view text, NormalForm form);

/// Lengths in bytes of the extended grapheme clusters at the start of well-formed text.
size_t GraphemeLength(std::string_view text);

}  // namespace moxie
