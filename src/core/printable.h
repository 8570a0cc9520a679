#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace moxie {

/// Text of foreign origin made fit for a one-line message: control characters, backslashes and
/// bytes that are not UTF-8 become \xNN, and what exceeds `limit` bytes is cut to end in "...".
std::string Printable(std::string_view text, size_t limit = 100);

/// The number of bytes of the UTF-8 character that `text` begins with: 1 to 4, or 0 where the
/// first bytes are not well-formed UTF-8 (Unicode 15, table 3-7) or `text` is empty.
size_t Utf8Length(std::string_view text);

/// Whether all of `text` is well-formed UTF-8.
bool IsUtf8(std::string_view text);

}  // namespace moxie
