#include "tokenizer/regex.h"

#include <gtest/gtest.h>

#include <string>

namespace moxie {
namespace {

/// The matches with bars between them.
std::string Matches(std::string_view pattern, std::string_view text) {
  const Result<Regex> regex = Regex::Compile(pattern);
  EXPECT_TRUE(regex.has_value()) << regex.error().message;
  std::string result;
  if (!regex) return result;
  regex->ForEachMatch(text, [&](size_t begin, size_t end) {
    if (!result.empty()) result += '|';
    result += text.substr(begin, end - begin);
  });
  return result;
}

TEST(Regex, FollowsPerlsOrderOfAlternativesAndGreed) {
  EXPECT_EQ(Matches("a|ab", "ab"), "a");
  EXPECT_EQ(Matches("(?:a|ab)c", "abc"), "abc");
  EXPECT_EQ(Matches("a+?b??", "aab"), "a|a");
  EXPECT_EQ(Matches("a{2,3}", "aaaaa"), "aaa|aa");
  EXPECT_EQ(Matches("(?:ab){2,}", "ababab ab"), "ababab");
  EXPECT_EQ(Matches("a++a", "aaa"), "");
  EXPECT_EQ(Matches("(?>a+)b", "aab"), "aab");
  EXPECT_EQ(Matches("x*", "axxb"), "xx");
}

TEST(Regex, LooksAroundAndAnchors) {
  EXPECT_EQ(Matches(R"(\s+(?!\S)|\s+)", "a   b "), "  | | ");
  EXPECT_EQ(Matches(R"(\d{1,3}(?=(?:\d{3})*\b))", "1234567"), "1|234|567");
  EXPECT_EQ(Matches("(?<=a)b", "abcb"), "b");
  EXPECT_EQ(Matches("(?<!a)b", "abcb"), "b");
  EXPECT_EQ(Matches(R"(\s+$)", "a \nb  "), " |  ");
  EXPECT_EQ(Matches(R"(\bb)", "ab b"), "b");
}

TEST(Regex, KnowsUnicodeClassesAndCase) {
  EXPECT_EQ(Matches(R"(\p{Lu}\p{Ll}+)", "Ünder äöÄß"), "Ünder|Äß");
  EXPECT_EQ(Matches(R"([^\s\p{L}\p{N}]+)", "a!? 1$"), "!?|$");
  EXPECT_EQ(Matches("(?i:'s)x", "'Sx 'ſx 's"), "'Sx|'ſx");
  EXPECT_EQ(Matches("[一-龥]+", "a漢字b"), "漢字");
  EXPECT_EQ(Matches(R"([!-/:-@]+)", "a+-;{b"), "+-;");
  EXPECT_EQ(Matches(R"(\x{41}\u0042[\]\-^])", "AB-AB^"), "AB-|AB^");
}

TEST(Regex, BoundsItsTime) {
  // Exponential for a backtracking matcher without a budget.
  EXPECT_EQ(Matches("(?:a+)+b", std::string(60, 'a')), "");
  // Quadratic without the rule that a run that fails once fails from each of its places.
  EXPECT_EQ(Matches(R"(\s+$)", std::string(1 << 20, ' ') + "x"), "");
}

TEST(Regex, RefusesWhatItCannotMatch) {
  for (const char* pattern : {"(a", "a)", "[a", "*a", "a{3,2}", R"(\p{L)", R"(\xZZ)", "[b-a]"}) {
    const auto regex = Regex::Compile(pattern);
    ASSERT_FALSE(regex.has_value()) << pattern;
    EXPECT_EQ(regex.error().code, ErrorCode::kInvalidInput) << pattern;
  }
  for (const char* pattern : {R"(\1)", "(?<n>a)", R"(\p{Klingon})", "[a&&b]", "(?:a*)*", "a{2000}",
                              "(?:(?:a{1000}){1000}b){1000}"}) {
    const auto regex = Regex::Compile(pattern);
    ASSERT_FALSE(regex.has_value()) << pattern;
    EXPECT_EQ(regex.error().code, ErrorCode::kUnsupported) << pattern;
  }
  EXPECT_FALSE(Regex::Compile(std::string(100'000, '(')).has_value());
}

}  // namespace
}  // namespace moxie
