#pragma once

#include <string>
#include <string_view>

#include "moxie/result.h"

namespace moxie {

/// Decodes RFC 4648 base64, padding optional.
/// Errors: kInvalidInput for another character; the message starts with `name`.
inline Result<std::string> DecodeBase64(std::string_view text, std::string_view name) {
  while (!text.empty() && text.back() == '=') text.remove_suffix(1);
  std::string bytes;
  bytes.reserve(text.size() * 3 / 4);
  uint32_t bits = 0;
  int count = 0;
  for (const char c : text) {
    const int value = c >= 'A' && c <= 'Z'   ? c - 'A'
                      : c >= 'a' && c <= 'z' ? c - 'a' + 26
                      : c >= '0' && c <= '9' ? c - '0' + 52
                      : c == '+'             ? 62
                      : c == '/'             ? 63
                                             : -1;
    if (value < 0) return Error{ErrorCode::kInvalidInput, std::string(name) + ": expected base64"};
    bits = (bits << 6) | static_cast<uint32_t>(value);
    count += 6;
    if (count < 8) continue;
    count -= 8;
    bytes.push_back(static_cast<char>((bits >> count) & 0xFF));
  }
  return bytes;
}

}  // namespace moxie
