#include "tokenizer/jinja_lexer.h"

#include <algorithm>
#include <array>

#include "tokenizer/jinja_text.h"

namespace moxie::jinja {
namespace {

// Jinja's whitespace is Python's; outside ASCII it is decoded to be classified.
size_t SpaceLength(std::string_view text) {
  if (text.empty()) return 0;
  const auto lead = static_cast<unsigned char>(text[0]);
  if (lead < 0x80) return IsSpace(lead) ? 1 : 0;
  const size_t length = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
  return length <= text.size() && IsSpace(Decode(text.substr(0, length))[0]) ? length : 0;
}

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsNameStart(char c) {
  const auto u = static_cast<unsigned char>(c);
  return (u >= 'a' && u <= 'z') || (u >= 'A' && u <= 'Z') || u == '_' || u >= 0x80;
}
bool IsNameChar(char c) { return IsNameStart(c) || IsDigit(c); }

int HexDigit(char c) {
  if (IsDigit(c)) return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// Newlines become "\n", and one at the very end goes, as Jinja does before anything else.
std::string NormalizeSource(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
      out += '\n';
    } else {
      out += source[i];
    }
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

class Lexer {
 public:
  explicit Lexer(std::string source) : source_(std::move(source)) {}

  std::vector<Token> Run() {
    while (position_ < source_.size()) {
      const size_t tag = FindTag();
      if (tag == std::string::npos) {
        AddData(source_.substr(position_));
        position_ = source_.size();
        break;
      }
      LexTag(tag);
    }
    Add(Token::Kind::kEnd, "end of template");
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void Fail(std::string message) const { throw Failure{std::move(message), line_}; }

  void Add(Token::Kind kind, std::string text) {
    tokens_.push_back({kind, line_, std::move(text)});
  }

  void AddData(std::string text) {
    const auto lines = std::count(text.begin(), text.end(), '\n');
    if (!text.empty()) Add(Token::Kind::kData, std::move(text));
    line_ += static_cast<int>(lines);
  }

  void Advance(size_t end) {
    line_ += static_cast<int>(std::count(source_.begin() + static_cast<std::ptrdiff_t>(position_),
                                         source_.begin() + static_cast<std::ptrdiff_t>(end), '\n'));
    position_ = end;
  }

  bool At(std::string_view text) const {
    return source_.compare(position_, text.size(), text) == 0;
  }

  size_t SkipSpace(size_t at) const {
    while (const size_t length = SpaceLength(std::string_view(source_).substr(at))) at += length;
    return at;
  }

  size_t FindTag() const {
    for (size_t at = source_.find('{', position_); at != std::string::npos;
         at = source_.find('{', at + 1)) {
      if (at + 1 < source_.size() &&
          std::string_view("{%#").find(source_[at + 1]) != std::string_view::npos)
        return at;
    }
    return std::string::npos;
  }

  // Adds the text before a tag: `sign` '-' strips its end, '+' nothing, and otherwise spaces
  // between the line's start and a block or comment go (lstrip_blocks).
  void AddDataBefore(size_t tag, char sign, bool is_variable) {
    std::string text = source_.substr(position_, tag - position_);
    const auto newlines = std::count(text.begin(), text.end(), '\n');
    const int line = line_;
    if (sign == '-') {
      text = Strip(text, false, true);
    } else if (sign != '+' && !is_variable) {
      const size_t newline = text.rfind('\n');
      const size_t start = newline == std::string::npos ? 0 : newline + 1;
      const bool starts_line = start > 0 || line_starting_;
      if (starts_line && start < text.size() && Strip(text.substr(start), true, false).empty())
        text.resize(start);
    }
    AddData(std::move(text));
    line_ = line + static_cast<int>(newlines);
  }

  void LexTag(size_t tag) {
    const char type = source_[tag + 1];
    size_t inside = tag + 2;
    const char sign = inside < source_.size() && (source_[inside] == '-' || source_[inside] == '+')
                          ? source_[inside]
                          : '\0';
    AddDataBefore(tag, sign, type == '{');
    if (sign != '\0') ++inside;
    position_ = inside;
    if (type == '#') {
      LexComment();
    } else if (type == '%' && AtRaw()) {
      LexRaw();
    } else {
      const bool variable = type == '{';
      Add(variable ? Token::Kind::kVariableBegin : Token::Kind::kBlockBegin,
          variable ? "{{" : "{%");
      LexExpression(variable);
    }
    line_starting_ = position_ > 0 && source_[position_ - 1] == '\n';
  }

  // After "%}", "-%}" and the like: applies trim_blocks or the sign.
  void FinishBlock(size_t end, char sign) {
    if (sign == '-') {
      end = SkipSpace(end);
    } else if (sign != '+' && end < source_.size() && source_[end] == '\n') {
      ++end;
    }
    Advance(end);
  }

  void LexComment() {
    const size_t end = source_.find("#}", position_);
    if (end == std::string::npos) Fail("missing end of comment tag");
    const char sign = end > position_ ? source_[end - 1] : '\0';
    FinishBlock(end + 2, sign);
  }

  bool AtRaw() const {
    size_t at = SkipSpace(position_);
    if (source_.compare(at, 3, "raw") != 0) return false;
    at = SkipSpace(at + 3);
    if (at < source_.size() && source_[at] == '-') ++at;
    return source_.compare(at, 2, "%}") == 0;
  }

  void LexRaw() {
    const size_t open = source_.find("%}", position_);
    const bool strip = source_[open - 1] == '-';
    Advance(strip ? SkipSpace(open + 2) : open + 2);
    line_starting_ = source_[position_ - 1] == '\n';
    for (size_t at = source_.find("{%", position_); at != std::string::npos;
         at = source_.find("{%", at + 1)) {
      size_t name = at + 2;
      char sign = '\0';
      if (name < source_.size() && (source_[name] == '-' || source_[name] == '+'))
        sign = source_[name++];
      name = SkipSpace(name);
      if (source_.compare(name, 6, "endraw") != 0) continue;
      size_t end = SkipSpace(name + 6);
      char end_sign = '\0';
      if (end < source_.size() && (source_[end] == '-' || source_[end] == '+'))
        end_sign = source_[end++];
      if (source_.compare(end, 2, "%}") != 0) continue;
      AddDataBefore(at, sign, false);
      position_ = at;
      Advance(end + 2);
      FinishBlock(end + 2, end_sign);
      return;
    }
    Fail("missing end of raw directive");
  }

  void LexExpression(bool variable) {
    std::string open;
    for (;;) {
      Advance(SkipSpace(position_));
      if (position_ >= source_.size()) {
        Fail(variable ? "the template ends inside {{ }}" : "the template ends inside {% %}");
      }
      if (open.empty() && LexTagEnd(variable)) return;
      LexToken(&open);
    }
  }

  bool LexTagEnd(bool variable) {
    const char sign = source_[position_];
    const bool strips = sign == '-' || (sign == '+' && !variable);
    const std::string_view end = variable ? "}}" : "%}";
    const size_t at = position_ + (strips ? 1 : 0);
    if (source_.compare(at, 2, end) != 0) return false;
    Add(variable ? Token::Kind::kVariableEnd : Token::Kind::kBlockEnd, std::string(end));
    if (variable) {
      Advance(strips ? SkipSpace(at + 2) : at + 2);
    } else {
      FinishBlock(at + 2, strips ? sign : '\0');
    }
    return true;
  }

  void LexToken(std::string* open) {
    const char c = source_[position_];
    if (IsDigit(c)) {
      LexNumber();
    } else if (IsNameStart(c)) {
      size_t end = position_;
      while (end < source_.size() && IsNameChar(source_[end])) ++end;
      Add(Token::Kind::kName, source_.substr(position_, end - position_));
      position_ = end;
    } else if (c == '\'' || c == '"') {
      LexString(c);
    } else {
      LexOperator(open);
    }
  }

  void LexOperator(std::string* open) {
    static constexpr std::array<std::string_view, 26> kOperators = {
        "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[",
        "]",  "(",  ")",  "{",  "}",  ">",  "<", "=", ".", ":", "|", ",", ";"};
    const auto* op = std::find_if(kOperators.begin(), kOperators.end(),
                                  [&](std::string_view candidate) { return At(candidate); });
    if (op == kOperators.end()) Fail("unexpected character '" + source_.substr(position_, 1) + "'");
    const char c = (*op)[0];
    if (c == '{' || c == '(' || c == '[') {
      open->push_back(c == '{' ? '}' : c == '(' ? ')' : ']');
    } else if (c == '}' || c == ')' || c == ']') {
      if (open->empty()) Fail("unexpected '" + std::string(1, c) + "'");
      if (open->back() != c) {
        Fail("unexpected '" + std::string(1, c) + "', expected '" + open->back() + "'");
      }
      open->pop_back();
    }
    Add(Token::Kind::kOperator, std::string(*op));
    position_ += op->size();
  }

  // The end of digits with single underscores between them.
  size_t Digits(size_t at, int base) const {
    const auto is_digit = [&](size_t i) {
      const int digit = i < source_.size() ? HexDigit(source_[i]) : -1;
      return digit >= 0 && digit < base;
    };
    while (is_digit(at) || (source_[at] == '_' && is_digit(at + 1))) ++at;
    return at;
  }

  void LexNumber() {
    const auto prefix = [&](char letter) {
      return source_[position_] == '0' && position_ + 1 < source_.size() &&
             (source_[position_ + 1] | 0x20) == letter;
    };
    const int base = prefix('x') ? 16 : prefix('o') ? 8 : prefix('b') ? 2 : 10;
    size_t end = Digits(base == 10 ? position_ : position_ + 2, base);
    Token::Kind kind = Token::Kind::kInteger;
    const bool after_dot = position_ > 0 && source_[position_ - 1] == '.';
    if (base == 10 && !after_dot) {
      const size_t whole = end;
      if (end + 1 < source_.size() && source_[end] == '.' && IsDigit(source_[end + 1]))
        end = Digits(end + 1, 10);
      if (end < source_.size() && (source_[end] | 0x20) == 'e') {
        size_t digits = end + 1;
        if (digits < source_.size() && (source_[digits] == '+' || source_[digits] == '-')) ++digits;
        if (digits < source_.size() && IsDigit(source_[digits])) end = Digits(digits, 10);
      }
      if (end != whole) kind = Token::Kind::kFloat;
    }
    std::string text = source_.substr(position_, end - position_);
    std::erase(text, '_');
    Add(kind, std::move(text));
    position_ = end;
  }

  void LexString(char quote) {
    size_t end = position_ + 1;
    while (end < source_.size() && source_[end] != quote) end += source_[end] == '\\' ? 2 : 1;
    if (end >= source_.size()) Fail("a string has no closing quote");
    Add(Token::Kind::kString,
        Unescape(std::string_view(source_).substr(position_ + 1, end - position_ - 1)));
    Advance(end + 1);
  }

  // Python's unicode-escape; unknown escapes stay as they are.
  std::string Unescape(std::string_view text) const {
    std::string out;
    for (size_t i = 0; i < text.size(); ++i) {
      if (text[i] != '\\' || i + 1 >= text.size()) {
        out += text[i];
        continue;
      }
      const char c = text[++i];
      static constexpr std::string_view kFrom = "\\'\"abfnrtv";
      static constexpr std::string_view kTo = "\\'\"\a\b\f\n\r\t\v";
      const size_t known = kFrom.find(c);
      if (c == '\n') continue;
      if (known != std::string_view::npos) {
        out += kTo[known];
      } else if (c == 'x' || c == 'u' || c == 'U') {
        const size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : 8;
        AppendCodePoint(EscapedCodePoint(text.substr(i + 1), digits), &out);
        i += digits;
      } else if (c >= '0' && c <= '7') {
        char32_t value = 0;
        size_t n = 0;
        for (; n < 3 && i + n < text.size() && text[i + n] >= '0' && text[i + n] <= '7'; ++n)
          value = value * 8 + static_cast<char32_t>(text[i + n] - '0');
        AppendCodePoint(value, &out);
        i += n - 1;
      } else if (c == 'N') {
        Fail("\\N{...} escapes are not supported");
      } else {
        out += '\\';
        out += c;
      }
    }
    return out;
  }

  char32_t EscapedCodePoint(std::string_view text, size_t digits) const {
    uint32_t value = 0;
    for (size_t i = 0; i < digits; ++i) {
      const int digit = i < text.size() ? HexDigit(text[i]) : -1;
      if (digit < 0) Fail("a \\x, \\u or \\U escape is cut short");
      value = value << 4 | static_cast<uint32_t>(digit);
    }
    if (value > 0x10ffff || (value >= 0xd800 && value < 0xe000))
      Fail("a string escape is no Unicode character");
    return value;
  }

  std::string source_;
  size_t position_ = 0;
  int line_ = 1;
  bool line_starting_ = true;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> Tokenize(std::string_view source) {
  if (!IsValidUtf8(source)) throw Failure{"the template is not valid UTF-8", 1};
  return Lexer(NormalizeSource(source)).Run();
}

}  // namespace moxie::jinja
