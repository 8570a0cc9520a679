#include "tokenizer/regex_class_parser.h"

#include <iterator>

namespace moxie {
namespace {

bool IsDecimal(char32_t c) { return IsIn(SetOf(Category::kNd), c); }
bool IsHexDigit(char32_t c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}
// Oniguruma counts the superscripts and fractions of Latin-1 as word characters.
bool IsRegexWord(char32_t c) {
  return IsWord(c) || c == 0xB2 || c == 0xB3 || c == 0xB9 || (c >= 0xBC && c <= 0xBE);
}

bool IsAsciiDecimal(char32_t c) { return c >= '0' && c <= '9'; }
bool IsAsciiWord(char32_t c) {
  return IsAsciiDecimal(c) || c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
bool IsAsciiWhitespace(char32_t c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
// What any dialect's \s holds: Python's also the separators of ASCII, JavaScript's U+FEFF.
bool IsAnyWhitespace(char32_t c) {
  return IsWhitespace(c) || (c >= 0x1C && c <= 0x1F) || c == 0xFEFF;
}

CharacterClass::Item PropertyItem(bool (*property)(char32_t), bool negated) {
  return {.first = 1, .property = property, .negated = negated};
}

CategorySet CategoriesNamed(std::string_view name) {
  static constexpr std::string_view kNames[] = {
      "Cn", "Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "No", "Pc", "Pd", "Ps",
      "Pe", "Pi", "Pf", "Po", "Sm", "Sc", "Sk", "So", "Zs", "Zl", "Zp", "Cc", "Cf", "Co", "Cs"};
  for (size_t i = 0; i < std::size(kNames); ++i) {
    if (name == kNames[i]) return SetOf(static_cast<Category>(i));
  }
  if (name == "L" || name == "Letter") return kLetters;
  if (name == "M" || name == "Mark") return kMarks;
  if (name == "N" || name == "Number") return kNumbers;
  if (name == "P" || name == "Punctuation") return kPunctuations;
  if (name == "S" || name == "Symbol") return kSymbols;
  if (name == "Z" || name == "Separator") return kSeparators;
  if (name == "C" || name == "Other") return kOthers;
  return 0;
}

}  // namespace

Result<char32_t> RegexClassParser::Character() {
  if (AtEnd()) return Malformed("the pattern ends too early");
  const DecodedCharacter c = DecodeUtf8(pattern_, at_);
  if (!c.valid) return Malformed("invalid UTF-8");
  at_ += c.length;
  return c.code_point;
}

CharacterClass::Item RegexClassParser::ClassEscape(bool (*unicode)(char32_t),
                                                   bool (*ascii)(char32_t), bool upper,
                                                   bool inverted) const {
  return PropertyItem(portable_ && upper == inverted ? ascii : unicode, upper);
}

Result<CharacterClass::Item> RegexClassParser::Escape(bool inverted) {
  MOXIE_TRY_ASSIGN(const char32_t c, Character());
  const auto character = [](char32_t value) {
    return CharacterClass::Item{.first = value, .last = value};
  };
  switch (c) {
    case 's':
    case 'S':
      return ClassEscape(portable_ ? IsAnyWhitespace : IsWhitespace, IsAsciiWhitespace, c == 'S',
                         inverted);
    case 'd':
    case 'D':
      return ClassEscape(IsDecimal, IsAsciiDecimal, c == 'D', inverted);
    case 'w':
    case 'W':
      return ClassEscape(IsRegexWord, IsAsciiWord, c == 'W', inverted);
    case 'h':
    case 'H':
      return PropertyItem(IsHexDigit, c == 'H');
    case 'p':
    case 'P':
      return Property(c == 'P');
    case 'n':
      return character('\n');
    case 'r':
      return character('\r');
    case 't':
      return character('\t');
    case 'f':
      return character('\f');
    case 'v':
      return character('\v');
    case 'a':
      return character('\a');
    case 'e':
      return character(0x1B);
    case 'x':
      return Hexadecimal(Take("{") ? 8 : 2);
    case 'u':
      return Hexadecimal(4);
    default:
      break;
  }
  if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) {
    return Unsupported(std::string("the escape \\") + static_cast<char>(c));
  }
  return character(c);
}

Result<CharacterClass::Item> RegexClassParser::Hexadecimal(int digits) {
  char32_t value = 0;
  int count = 0;
  for (; count < digits && IsHexDigit(static_cast<unsigned char>(Peek())) && !AtEnd(); ++count) {
    const char c = Peek();
    value = value * 16 + static_cast<char32_t>(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
    ++at_;
  }
  const bool braces = digits == 8;
  if (count == 0 || value > 0x10FFFF || (braces && !Take("}"))) {
    return Malformed("a malformed hexadecimal escape");
  }
  return CharacterClass::Item{.first = value, .last = value};
}

Result<CharacterClass::Item> RegexClassParser::Property(bool negated) {
  const size_t close = pattern_.find('}', at_);
  if (Peek() != '{' || close == std::string_view::npos) return Malformed("a malformed \\p{...}");
  std::string_view name = pattern_.substr(at_ + 1, close - at_ - 1);
  if (name.substr(0, 1) == "^") {
    negated = !negated;
    name.remove_prefix(1);
  }
  const CategorySet set = CategoriesNamed(name);
  if (set == 0) return Unsupported("the property " + std::string(name.substr(0, 40)));
  at_ = close + 1;
  return CharacterClass::Item{.first = 1, .categories = set, .negated = negated};
}

Result<CharacterClass> RegexClassParser::Bracket() {
  CharacterClass set;
  set.negated = Take("^");
  for (bool first = true; first || Peek() != ']'; first = false) {
    if (AtEnd()) return Malformed("a [ without its ]");
    if (Peek() == '[') return Unsupported("a class within a class");
    if (Take("&&")) return Unsupported("the intersection of classes");
    MOXIE_TRY_ASSIGN(CharacterClass::Item item, BracketItem(set.negated));
    const bool single = item.property == nullptr && item.categories == 0;
    const bool range =
        single && Peek() == '-' && at_ + 1 < pattern_.size() && pattern_[at_ + 1] != ']';
    if (range) {
      ++at_;
      MOXIE_TRY_ASSIGN(const CharacterClass::Item last, BracketItem(set.negated));
      if (last.property != nullptr || last.categories != 0 || last.first < item.first) {
        return Malformed("a malformed range");
      }
      item.last = last.first;
    }
    set.items.push_back(item);
  }
  ++at_;
  return set;
}

Result<CharacterClass::Item> RegexClassParser::BracketItem(bool inverted) {
  if (Take("\\b")) return CharacterClass::Item{.first = '\b', .last = '\b'};
  if (Take("\\")) return Escape(inverted);
  MOXIE_TRY_ASSIGN(const char32_t c, Character());
  return CharacterClass::Item{.first = c, .last = c};
}

}  // namespace moxie
