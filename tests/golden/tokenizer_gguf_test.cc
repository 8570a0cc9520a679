// The reference folders' vocabularies as GGUF arrays: the same ids as from tokenizer.json.
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "support/shared.h"
#include "tokenizer/tokenizer.h"

namespace moxie {
namespace {

using nlohmann::json;

json Read(const std::filesystem::path& path) { return json::parse(std::ifstream(path)); }

ModelFiles AsGguf(const json& source, const std::string& pre) {
  std::map<int64_t, std::string> pieces;
  std::map<int64_t, int64_t> types;
  for (const auto& [piece, id] : source.at("model").at("vocab").items()) pieces[id] = piece;
  for (const json& token : source.at("added_tokens")) {
    const auto id = token.at("id").get<int64_t>();
    pieces[id] = token.at("content").get<std::string>();
    types[id] = token.at("special").get<bool>() ? 3 : 4;
  }
  std::vector<std::string> texts;
  std::vector<int64_t> kinds;
  for (const auto& [id, piece] : pieces) {
    EXPECT_EQ(id, static_cast<int64_t>(texts.size()));
    texts.push_back(piece);
    kinds.push_back(types.contains(id) ? types[id] : 1);
  }
  std::vector<std::string> merges;
  for (const json& merge : source.at("model").at("merges")) {
    merges.push_back(merge.is_string()
                         ? merge.get<std::string>()
                         : merge[0].get<std::string>() + " " + merge[1].get<std::string>());
  }
  ModelFiles files;
  files.path = "test.gguf";
  files.metadata.values = {{"tokenizer.ggml.model", std::string("gpt2")},
                           {"tokenizer.ggml.pre", pre},
                           {"tokenizer.ggml.tokens", texts},
                           {"tokenizer.ggml.token_type", kinds},
                           {"tokenizer.ggml.merges", merges},
                           {"tokenizer.ggml.add_bos_token", false}};
  return files;
}

TEST(GoldenTokenizer, GgufArraysGiveTheSameIds) {
  const auto shared = testing::SharedDir();
  if (!shared) GTEST_SKIP() << "no reference folders (MOXIE_SHARED)";
  for (const auto& [name, pre] : std::map<std::string, std::string>{{"llama3-rope", "llama-bpe"},
                                                                    {"qwen2moe", "qwen2"},
                                                                    {"qwen3moe", "qwen2"},
                                                                    {"olmoe", "olmo"},
                                                                    {"gptoss", "gpt-4o"},
                                                                    {"deepseekv3", "deepseek-v3"},
                                                                    {"llama-bias", "smollm"}}) {
    SCOPED_TRACE(name);
    const auto folder = *shared / "golden" / name;
    if (!std::filesystem::exists(folder)) continue;
    const auto tokenizer = LoadTokenizer(AsGguf(Read(folder / "tokenizer.json"), pre));
    ASSERT_TRUE(tokenizer.has_value()) << tokenizer.error().message;
    const json golden = Read(folder / "golden.json");
    for (const json& entry : golden.at("tokenizer").at("cases")) {
      SCOPED_TRACE(entry.at("text").dump(-1, ' ', true));
      const auto ids = entry.at("ids").get<std::vector<TokenId>>();
      EXPECT_EQ((*tokenizer)->Encode(entry.at("text").get<std::string>(), {.add_special = false}),
                ids);
      EXPECT_EQ((*tokenizer)->Decode(ids, false), entry.at("decoded").get<std::string>());
    }
  }
}

}  // namespace
}  // namespace moxie
