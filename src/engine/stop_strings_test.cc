#include "engine/stop_strings.h"

#include <gtest/gtest.h>

#include <random>

namespace moxie {
namespace {

TEST(StopStrings, FindsAStringThatArrivesInPieces) {
  StopStrings stops({"END"});
  EXPECT_EQ(stops.Add("the E"), "the ");
  EXPECT_EQ(stops.Add("N"), "");
  EXPECT_FALSE(stops.found());
  EXPECT_EQ(stops.Add("D and more"), "");
  EXPECT_TRUE(stops.found());
  EXPECT_EQ(stops.Add("never shown"), "");
}

TEST(StopStrings, ShowsWhatTurnsOutToBeNone) {
  StopStrings stops({"END"});
  EXPECT_EQ(stops.Add("EN"), "");
  EXPECT_EQ(stops.Add("ERGY"), "ENERGY");
  EXPECT_EQ(stops.Add(" E"), " ");
  EXPECT_EQ(stops.Finish(), "E");
}

TEST(StopStrings, WithoutStringsNothingIsHeldBack) {
  StopStrings stops({""});
  EXPECT_EQ(stops.Add("anything"), "anything");
  EXPECT_EQ(stops.Finish(), "");
}

// Twin: cut the whole text at the first occurrence of any string.
TEST(StopStrings, AgreesWithASearchOfTheWholeText) {
  std::mt19937 random(7);
  const std::vector<std::string> strings = {"aba", "bb", "abca"};
  for (int round = 0; round < 2000; ++round) {
    std::string text;
    for (int i = 0; i < 24; ++i) text += static_cast<char>('a' + random() % 3);
    size_t first = std::string::npos;
    for (const std::string& string : strings) first = std::min(first, text.find(string));

    StopStrings stops(strings);
    std::string shown;
    for (size_t at = 0; at < text.size();) {
      const size_t length = 1 + random() % 5;
      shown += stops.Add(text.substr(at, length));
      at += length;
    }
    shown += stops.Finish();
    ASSERT_EQ(shown, text.substr(0, first)) << text;
    ASSERT_EQ(stops.found(), first != std::string::npos) << text;
  }
}

}  // namespace
}  // namespace moxie
