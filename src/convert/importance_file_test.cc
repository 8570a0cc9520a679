#include "convert/importance_file.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <string>

#include "support/temp_folder.h"

namespace moxie {
namespace {

std::string Word(int32_t word) {
  std::string bytes(sizeof word, '\0');
  std::memcpy(bytes.data(), &word, sizeof word);
  return bytes;
}

std::string Float(float value) {
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}

auto Parse(const std::string& bytes) {
  return ParseImportanceDat(std::as_bytes(std::span(bytes)), "old.dat");
}

TEST(ImportanceFile, ReadsTheOlderFormAndRefusesEveryCut) {
  const std::string entry = Word(1) + Word(1) + "t" + Word(3) + Word(2) + Float(1.5f) + Float(6);
  const auto importance = Parse(entry + Word(3) + Word(4) + "text");
  ASSERT_TRUE(importance) << importance.error().message;
  EXPECT_EQ(importance->chunks, 3);
  EXPECT_EQ(importance->datasets, std::vector<std::string>{"text"});
  const auto weights = importance->Weights("t", 1, 2);
  ASSERT_TRUE(weights && *weights);
  EXPECT_EQ(**weights, (std::vector<float>{0.5f, 2}));
  for (size_t size = 0; size < entry.size(); ++size)
    EXPECT_FALSE(Parse(entry.substr(0, size))) << size;
}

TEST(ImportanceFile, RefusesClaimsBeyondTheFileAndNumbersThatAreNone) {
  EXPECT_FALSE(Parse(Word(1) + Word(0x7fffffff) + "t"));
  EXPECT_FALSE(Parse(Word(1) + Word(1) + "t" + Word(1) + Word(0x7fffffff) + Float(1)));
  EXPECT_FALSE(Parse(Word(1) + Word(1) + "t" + Word(1) + Word(-1) + Float(1)));
  EXPECT_FALSE(Parse(Word(1) + Word(1) + "t" + Word(1) + Word(1) + Float(NAN)));
}

TEST(ImportanceFile, GivesAnUnreachedExpertItsLayersMean) {
  Importance importance;
  // Sums over 2 and 6 inputs, and none: the third expert's weights are (1 + 5) / 8, (2 + 6) / 8.
  importance.entries["blk.0.ffn_up_exps.weight"] = {{1, 2, 5, 6, 0, 0}, {2, 6, 0}};
  importance.chunks = 4;
  importance.chunk_tokens = 512;
  importance.datasets = {"text"};
  const testing::TempFolder folder;
  const auto path = folder.path() / "i.gguf";
  ASSERT_TRUE(WriteImportance(importance, path));
  const auto read = ReadImportance(path);
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(read->chunk_tokens, 512);
  const auto all = read->Weights("blk.0.ffn_up_exps.weight", 3, 2);
  ASSERT_TRUE(all && *all);
  EXPECT_EQ(**all, (std::vector<float>{0.5f, 1, 5 / 6.0f, 1, 0.75f, 1}));
  const auto one = read->Weights("blk.0.ffn_up.2.weight", 1, 2);
  ASSERT_TRUE(one && *one);
  EXPECT_EQ(**one, (std::vector<float>{0.75f, 1}));
  EXPECT_FALSE(read->Weights("blk.0.ffn_up_exps.weight", 2, 2));
  const auto unknown = read->Weights("blk.0.attn_q.weight", 1, 2);
  ASSERT_TRUE(unknown);
  EXPECT_FALSE(*unknown);
}

}  // namespace
}  // namespace moxie
