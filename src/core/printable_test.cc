#include "core/printable.h"

#include <gtest/gtest.h>

namespace moxie {
namespace {

TEST(PrintableTest, KeepsTextAndEscapesTheRest) {
  EXPECT_EQ(Printable("blk.0.größe 漢字 😀"), "blk.0.größe 漢字 😀");
  EXPECT_EQ(Printable("a\nb\x1b[31m\\"), "a\\x0ab\\x1b[31m\\x5c");
  EXPECT_EQ(Printable("\xff\xc3"), "\\xff\\xc3");
  EXPECT_EQ(Printable("\xc2\x85"), "\\xc2\\x85");
}

TEST(PrintableTest, CutsAtWholeCharacters) {
  EXPECT_EQ(Printable("abcdef", 6), "abcdef");
  EXPECT_EQ(Printable("abcdef", 5), "abcde...");
  EXPECT_EQ(Printable("ab漢", 4), "ab...");
  EXPECT_EQ(Printable("\n\n", 4), "\\x0a...");
}

// Unicode 15, table 3-7, spelled out as code points by a decoder that does not share the code.
TEST(PrintableTest, KnowsWellFormedUtf8) {
  const auto encoded_length = [](uint32_t lead, uint32_t second) -> size_t {
    std::string text = {static_cast<char>(lead), static_cast<char>(second), '\x80', '\x80'};
    return Utf8Length(text);
  };
  for (uint32_t lead = 0x80; lead < 0x100; ++lead) {
    for (uint32_t second = 0; second < 0x100; ++second) {
      size_t want = 0;
      const bool continues = (second & 0xc0) == 0x80;
      const uint32_t bits = second & 0x3f;
      if (continues && (lead & 0xe0) == 0xc0 && ((lead & 0x1f) << 6 | bits) >= 0x80) want = 2;
      if (continues && (lead & 0xf0) == 0xe0) {
        const uint32_t point = (lead & 0xf) << 12 | bits << 6;
        if (point + 0x3f >= 0x800 && (point < 0xd800 || point > 0xdfff) && point >= 0x800) want = 3;
      }
      if (continues && (lead & 0xf8) == 0xf0) {
        const uint32_t point = (lead & 7) << 18 | bits << 12;
        if (point >= 0x10000 && point <= 0x10ffff) want = 4;
      }
      EXPECT_EQ(encoded_length(lead, second), want) << lead << " " << second;
    }
  }
  EXPECT_EQ(Utf8Length(""), 0u);
  EXPECT_EQ(Utf8Length("\xe6\xbc"), 0u);
  EXPECT_TRUE(IsUtf8("aß漢😀"));
  EXPECT_FALSE(IsUtf8("a\xc3"));
}

}  // namespace
}  // namespace moxie
