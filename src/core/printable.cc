#include "core/printable.h"

namespace moxie {

size_t Utf8Length(std::string_view text) {
  const auto byte = [&](size_t i) {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u;
  };
  const auto within = [&](size_t i, unsigned low, unsigned high) {
    return byte(i) >= low && byte(i) <= high;
  };
  const unsigned lead = byte(0);
  if (text.empty()) return 0;
  if (lead < 0x80) return 1;
  if (lead < 0xc2 || lead > 0xf4) return 0;
  if (lead < 0xe0) return within(1, 0x80, 0xbf) ? 2 : 0;
  // Overlong forms, surrogates and values beyond U+10FFFF show in the second byte.
  if (lead < 0xf0) {
    const unsigned low = lead == 0xe0 ? 0xa0 : 0x80;
    const unsigned high = lead == 0xed ? 0x9f : 0xbf;
    return within(1, low, high) && within(2, 0x80, 0xbf) ? 3 : 0;
  }
  const unsigned low = lead == 0xf0 ? 0x90 : 0x80;
  const unsigned high = lead == 0xf4 ? 0x8f : 0xbf;
  return within(1, low, high) && within(2, 0x80, 0xbf) && within(3, 0x80, 0xbf) ? 4 : 0;
}

bool IsUtf8(std::string_view text) {
  while (!text.empty()) {
    const size_t length = Utf8Length(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

std::string Printable(std::string_view text, size_t limit) {
  static constexpr char kHex[] = "0123456789abcdef";
  std::string out;
  while (!text.empty()) {
    const size_t length = Utf8Length(text);
    const unsigned char first = static_cast<unsigned char>(text[0]);
    // U+0080..U+009F are control characters as well.
    const bool control =
        first < 0x20 || first == 0x7f || first == '\\' ||
        (length == 2 && first == 0xc2 && static_cast<unsigned char>(text[1]) < 0xa0);
    const bool escape = length == 0 || control;
    const size_t taken = length == 0 ? 1 : length;
    if (out.size() + (escape ? 4 * taken : taken) > limit) return out + "...";
    for (size_t i = 0; i < taken; ++i) {
      const unsigned char c = static_cast<unsigned char>(text[i]);
      if (escape) {
        out += {'\\', 'x', kHex[c >> 4], kHex[c & 15]};
      } else {
        out += text[i];
      }
    }
    text.remove_prefix(taken);
  }
  return out;
}

}  // namespace moxie
