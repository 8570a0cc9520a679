// Every reference folder's tokenizer against the ids and texts that Hugging Face's `tokenizers` and
// SentencePiece's own library gave for it.
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "moxie/tokenizer.h"
#include "support/shared.h"

namespace moxie {
namespace {

using nlohmann::json;

std::vector<std::string> GoldenFolders() {
  const auto shared = testing::SharedDir();
  if (!shared) return {};
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(*shared / "golden")) {
    if (std::filesystem::exists(entry.path() / "tokenizer_config.json")) {
      names.push_back(entry.path().filename().string());
    }
  }
  std::sort(names.begin(), names.end());
  return names;
}

json ReadGolden(const std::string& name) {
  return json::parse(std::ifstream(*testing::SharedDir() / "golden" / name / "golden.json"));
}

std::unique_ptr<Tokenizer> Open(const std::string& name) {
  auto tokenizer = OpenTokenizer((*testing::SharedDir() / "golden" / name).string());
  EXPECT_TRUE(tokenizer.has_value()) << tokenizer.error().message;
  return tokenizer ? std::move(tokenizer).value() : nullptr;
}

TEST(GoldenTokenizer, EncodesAndDecodesTheCases) {
  const auto names = GoldenFolders();
  if (names.empty()) GTEST_SKIP() << "no reference folders (MOXIE_SHARED)";
  for (const std::string& name : names) {
    SCOPED_TRACE(name);
    const auto tokenizer = Open(name);
    ASSERT_NE(tokenizer, nullptr);
    const json golden = ReadGolden(name).at("tokenizer");
    for (const json& entry : golden.at("cases")) {
      const auto text = entry.at("text").get<std::string>();
      SCOPED_TRACE(entry.at("text").dump(-1, ' ', true));
      const auto ids = entry.at("ids").get<std::vector<TokenId>>();
      const auto with_special = entry.at("ids_special").get<std::vector<TokenId>>();
      EXPECT_EQ(tokenizer->Encode(text, {.add_special = false}), ids);
      EXPECT_EQ(tokenizer->Encode(text, {.add_special = true}), with_special);
      EXPECT_EQ(tokenizer->Encode(text, {.add_special = false, .parse_special = false}),
                entry.at("ids_plain").get<std::vector<TokenId>>());
      EXPECT_EQ(tokenizer->Decode(ids, false), entry.at("decoded").get<std::string>());
      EXPECT_EQ(tokenizer->Decode(with_special, true), entry.at("decoded_skip").get<std::string>());
    }
    for (const json& entry : golden.at("decode")) {
      const auto ids = entry.at("ids").get<std::vector<TokenId>>();
      EXPECT_EQ(tokenizer->Decode(ids, false), entry.at("text").get<std::string>());
      EXPECT_EQ(tokenizer->Decode(ids, true), entry.at("text_skip").get<std::string>());
    }
  }
}

TEST(GoldenTokenizer, NamesTheSpecialTokens) {
  const auto names = GoldenFolders();
  if (names.empty()) GTEST_SKIP() << "no reference folders (MOXIE_SHARED)";
  for (const std::string& name : names) {
    SCOPED_TRACE(name);
    const auto tokenizer = Open(name);
    ASSERT_NE(tokenizer, nullptr);
    const json golden = ReadGolden(name).at("tokenizer");
    EXPECT_EQ(tokenizer->adds_bos(), golden.at("add_bos").get<bool>());
    for (const char* which : {"bos", "eos"}) {
      if (!golden.at(which).is_number()) continue;
      const auto id = which[0] == 'b' ? tokenizer->bos() : tokenizer->eos();
      EXPECT_EQ(id, golden.at(which).get<TokenId>()) << which;
    }
    const auto& stops = tokenizer->stop_tokens();
    if (tokenizer->eos()) {
      EXPECT_NE(std::find(stops.begin(), stops.end(), *tokenizer->eos()), stops.end());
    }
  }
}

// The folders with a tokenizer.model, read through it alone.
TEST(GoldenTokenizer, EncodesAsSentencePieceDoes) {
  const auto names = GoldenFolders();
  if (names.empty()) GTEST_SKIP() << "no reference folders (MOXIE_SHARED)";
  int folders = 0;
  for (const std::string& name : names) {
    const auto source = *testing::SharedDir() / "golden" / name / "tokenizer.model";
    if (!std::filesystem::exists(source)) continue;
    SCOPED_TRACE(name);
    ++folders;
    const auto folder = std::filesystem::path(::testing::TempDir()) / ("moxie_model_" + name);
    std::filesystem::create_directories(folder);
    std::filesystem::copy_file(source, folder / "tokenizer.model",
                               std::filesystem::copy_options::overwrite_existing);
    const auto tokenizer = OpenTokenizer(folder.string());
    ASSERT_TRUE(tokenizer.has_value()) << tokenizer.error().message;
    const json golden = ReadGolden(name);
    for (const json& entry : golden.at("tokenizer").at("cases")) {
      SCOPED_TRACE(entry.at("text").dump(-1, ' ', true));
      EXPECT_EQ((*tokenizer)
                    ->Encode(entry.at("text").get<std::string>(),
                             {.add_special = false, .parse_special = false}),
                entry.at("ids_sp").get<std::vector<TokenId>>());
    }
    std::filesystem::remove_all(folder);
  }
  EXPECT_GE(folders, 3);
}

// What a stream prints, put together, is what Decode gives, for texts without broken characters.
TEST(GoldenTokenizer, StreamsTheSameText) {
  const auto names = GoldenFolders();
  if (names.empty()) GTEST_SKIP() << "no reference folders (MOXIE_SHARED)";
  for (const std::string& name : names) {
    SCOPED_TRACE(name);
    const auto tokenizer = Open(name);
    ASSERT_NE(tokenizer, nullptr);
    const json golden = ReadGolden(name);
    for (const json& entry : golden.at("tokenizer").at("cases")) {
      SCOPED_TRACE(entry.at("text").dump(-1, ' ', true));
      const auto ids = entry.at("ids_special").get<std::vector<TokenId>>();
      StreamDecoder stream(*tokenizer);
      std::string text;
      for (const TokenId id : ids) text += stream.Add(id);
      text += stream.Finish();
      EXPECT_EQ(text, entry.at("decoded_skip").get<std::string>());
    }
  }
}

}  // namespace
}  // namespace moxie
