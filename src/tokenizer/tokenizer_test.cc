#include "tokenizer/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>

#include "tokenizer/loaders.h"
#include "tokenizer/normalizer.h"

namespace moxie {
namespace {

using ::testing::HasSubstr;

std::unique_ptr<Tokenizer> Make(Result<TokenizerParts> parts) {
  EXPECT_TRUE(parts.has_value()) << parts.error().message;
  return std::make_unique<PipelineTokenizer>(std::move(parts).value());
}

/// A byte-level tokenizer.json: all bytes at 0..255, then `merges` of two
/// characters each.
std::string ByteLevelJson(const std::vector<std::pair<std::string, std::string>>& merges,
                          const std::string& added = "") {
  std::string vocab;
  int next = 0;
  const auto add = [&](const std::string& piece) {
    std::string quoted;
    for (const char c : piece) {
      if (c == '"' || c == '\\') quoted += '\\';
      quoted += c;
    }
    vocab += (next == 0 ? "\"" : ",\"") + quoted + "\":" + std::to_string(next);
    ++next;
  };
  for (int byte = 0; byte < 256; ++byte)
    add(BytesToCharacters(std::string(1, static_cast<char>(byte))));
  std::string list;
  for (const auto& [left, right] : merges) {
    add(left + right);
    list += (list.empty() ? "[\"" : ",[\"") + left + "\",\"" + right + "\"]";
  }
  return R"({"added_tokens":[)" + added +
         R"(],"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false},)"
         R"("decoder":{"type":"ByteLevel"},"model":{"type":"BPE","vocab":{)" +
         vocab + R"(},"merges":[)" + list + "]}}";
}

std::string Message(Result<TokenizerParts> parts) {
  EXPECT_FALSE(parts.has_value());
  return parts ? "" : parts.error().message;
}

TEST(Tokenizer, MergesTheLowestRankFirstAndTheLeftmostOfEquals) {
  const auto tokenizer =
      Make(LoadTokenizerJson(ByteLevelJson({{"b", "c"}, {"a", "b"}, {"a", "a"}, {"aa", "a"}})));
  const auto pieces = [&](std::string_view text) {
    std::vector<std::string> result;
    for (const TokenId id : tokenizer->Encode(text, {})) result.push_back(tokenizer->Piece(id));
    return result;
  };
  EXPECT_EQ(pieces("abc"), (std::vector<std::string>{"a", "bc"}));
  EXPECT_EQ(pieces("aaaaa"), (std::vector<std::string>{"aa", "aaa"}));
  EXPECT_EQ(pieces("ab"), (std::vector<std::string>{"ab"}));
}

TEST(Tokenizer, AddedTokensTakeSpacesAlongAsTheyAreTold) {
  const auto tokenizer = Make(LoadTokenizerJson(ByteLevelJson(
      {}, R"({"id":256,"content":"<l>","special":true,"lstrip":true,"normalized":false},)"
          R"({"id":257,"content":"<r>","special":true,"rstrip":true,"normalized":false},)"
          R"({"id":258,"content":"<w>","special":false,"single_word":true,"normalized":false})")));
  const EncodeOptions parse{.add_special = false};
  EXPECT_EQ(tokenizer->Encode("a  <l> b", parse), (std::vector<TokenId>{'a', 256, ' ', 'b'}));
  EXPECT_EQ(tokenizer->Encode("a <r>  b", parse), (std::vector<TokenId>{'a', ' ', 257, 'b'}));
  EXPECT_EQ(tokenizer->Encode("<w>", parse), (std::vector<TokenId>{258}));
  EXPECT_EQ(tokenizer->Encode("x<w>", parse), (std::vector<TokenId>{'x', '<', 'w', '>'}));
  EXPECT_EQ(tokenizer->Encode("<l>", {.add_special = false, .parse_special = false}),
            (std::vector<TokenId>{'<', 'l', '>'}));
}

TEST(Tokenizer, ATokenizerModelTakesTheTokensOfItsConfiguration) {
  using namespace std::string_view_literals;
  // Pieces u (unknown), ▁ and a, a BPE model without a dummy prefix.
  auto parts = LoadSentencePiece(
      "\x0A\x05\x0A\x01u\x18\x02\x0A\x05\x0A\x03\xE2"
      "\x96\x81\x0A\x03\x0A\x01\x61"
      "\x12\x02\x18\x02\x1A\x04\x18\x00\x20\x00"sv);
  ASSERT_TRUE(parts.has_value()) << parts.error().message;
  TokenizerHints hints;
  hints.added = {{.id = 3, .content = "<|im_end|>", .special = true, .rstrip = true}};
  ASSERT_TRUE(AddHintedTokens(hints, &parts.value()).has_value());
  const auto tokenizer = Make(std::move(parts));
  EXPECT_EQ(tokenizer->Encode("a <|im_end|>  a", {.add_special = false}),
            (std::vector<TokenId>{2, 1, 3, 2}));
  EXPECT_TRUE(tokenizer->IsSpecial(3));
}

TEST(Tokenizer, AStreamNeverHoldsHalfACharacter) {
  const auto tokenizer = Make(LoadTokenizerJson(ByteLevelJson({})));
  const std::string text = "a\xF0\x9F\x99\x82\xC3\xA9z";
  StreamDecoder stream(*tokenizer);
  std::vector<std::string> parts;
  for (const char c : text) parts.push_back(stream.Add(static_cast<unsigned char>(c)));
  EXPECT_EQ(parts,
            (std::vector<std::string>{"a", "", "", "", "\xF0\x9F\x99\x82", "", "\xC3\xA9", "z"}));
  EXPECT_EQ(stream.Finish(), "");
}

TEST(Tokenizer, AStreamReplacesWhatCannotBecomeACharacter) {
  const auto tokenizer = Make(LoadTokenizerJson(ByteLevelJson({})));
  StreamDecoder stream(*tokenizer);
  EXPECT_EQ(stream.Add(0xE2), "");
  EXPECT_EQ(stream.Add('x'), "\xEF\xBF\xBDx");
  EXPECT_EQ(stream.Add(0x80), "\xEF\xBF\xBD");
  EXPECT_EQ(stream.Add(0xF0), "");
  EXPECT_EQ(stream.Add(0x9F), "");
  EXPECT_EQ(stream.Finish(), "\xEF\xBF\xBD");
}

TEST(Tokenizer, TokensOutsideTheVocabularyDecodeToNothing) {
  const auto tokenizer = Make(LoadTokenizerJson(ByteLevelJson({})));
  EXPECT_EQ(tokenizer->Decode({'a', -1, 256, INT32_MAX, 'b'}, true), "ab");
  EXPECT_EQ(tokenizer->Piece(-5), "");
  EXPECT_EQ(tokenizer->Bytes(300), "");
  EXPECT_FALSE(tokenizer->IsSpecial(-1));
}

TEST(Tokenizer, RefusesBadJsonInOneSentence) {
  const auto model = [](const std::string& text) {
    return Message(LoadTokenizerJson(R"({"model":{"type":"BPE",)" + text + "}}"));
  };
  EXPECT_THAT(Message(LoadTokenizerJson("[]")), HasSubstr("expected an object"));
  EXPECT_THAT(Message(LoadTokenizerJson("{}")), HasSubstr("model: expected"));
  EXPECT_THAT(model(R"("vocab":{"a":-1})"), HasSubstr("token id -1"));
  EXPECT_THAT(model(R"("vocab":{"a":4000000000})"), HasSubstr("must be in 0.."));
  EXPECT_THAT(model(R"("vocab":{"a":1e3})"), HasSubstr("integers"));
  EXPECT_THAT(model(R"("vocab":{"a":0,"b":0})"), HasSubstr("given twice"));
  EXPECT_THAT(model(R"("vocab":{"a":0},"merges":["a b"])"), HasSubstr("\"b\""));
  EXPECT_THAT(model(R"("vocab":{"a":0},"merges":["ab"])"), HasSubstr("one space"));
  EXPECT_THAT(model(R"("vocab":{"a":0,"b":1},"merges":[["a","b"]])"), HasSubstr("\"ab\""));
  EXPECT_THAT(model(R"("vocab":{"a":0},"unk_token":"<unk>")"), HasSubstr("unk_token"));
  EXPECT_THAT(model(R"("vocab":{")" + std::string(70'000, 'a') + R"(":0})"), HasSubstr("bytes"));
  EXPECT_THAT(Message(LoadTokenizerJson(R"({"model":{"type":"WordPiece"}})")),
              HasSubstr("WordPiece"));
  EXPECT_THAT(
      Message(LoadTokenizerJson(R"({"model":{"type":"Unigram","vocab":[["a",0.0]],"unk_id":7}})")),
      HasSubstr("unk_id"));
  const std::string base = R"({"model":{"type":"BPE","vocab":{"a":0}},)";
  EXPECT_THAT(Message(LoadTokenizerJson(base + R"("normalizer":{"type":"Magic"}})")),
              HasSubstr("Magic"));
  EXPECT_THAT(Message(LoadTokenizerJson(
                  base + R"("pre_tokenizer":{"type":"Split","pattern":{"Regex":"(a"}}})")),
              HasSubstr("regular expression"));
  EXPECT_THAT(Message(LoadTokenizerJson(base + R"("added_tokens":[{"id":-3,"content":"x"}]})")),
              HasSubstr("added_tokens.id"));
}

TEST(Tokenizer, RefusesBrokenSentencePieceModels) {
  const auto load = [](std::string_view bytes) { return Message(LoadSentencePiece(bytes)); };
  using namespace std::string_view_literals;
  EXPECT_THAT(load(""), HasSubstr("unknown type"));
  EXPECT_THAT(load("\x0A\xFF\xFF\xFF\xFF\x0F"),
              HasSubstr("ends beyond"));  // A piece of 2^32 bytes.
  EXPECT_THAT(load("\x0A\x7F\x0A"), HasSubstr("ends beyond"));
  EXPECT_THAT(load("\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF"), HasSubstr("ten bytes"));
  EXPECT_THAT(load("\x0B"), HasSubstr("wire type 3"));
  EXPECT_THAT(load("\x0A\x05\x0A\x01x\x18\x09"sv), HasSubstr("1..6"));
  EXPECT_THAT(load("\x0A\x03\x0A\x01x\x0A\x03\x0A\x01x\x0A\x05\x0A\x01u\x18\x02"sv),
              HasSubstr("the same piece"));
  // normalizer_spec with a character map that claims a trie beyond its end.
  EXPECT_THAT(load("\x0A\x05\x0A\x01u\x18\x02\x1A\x08\x12\x06\xFF\xFF\xFF\x7F\x01\x01"sv),
              HasSubstr("precompiled_charsmap"));
}

TEST(Tokenizer, RefusesBadGgufArrays) {
  GgufMetadata metadata;
  auto& values = metadata.values;
  EXPECT_THAT(Message(LoadGgufTokenizer(metadata)), HasSubstr("tokenizer.ggml.model"));
  values["tokenizer.ggml.model"] = std::string("gpt2");
  EXPECT_THAT(Message(LoadGgufTokenizer(metadata)), HasSubstr("tokenizer.ggml.tokens"));
  values["tokenizer.ggml.tokens"] = std::vector<int64_t>{1, 2};
  EXPECT_THAT(Message(LoadGgufTokenizer(metadata)), HasSubstr("tokenizer.ggml.tokens"));
  values["tokenizer.ggml.tokens"] = std::vector<std::string>{"a", "b"};
  values["tokenizer.ggml.token_type"] = std::vector<int64_t>{1};
  EXPECT_THAT(Message(LoadGgufTokenizer(metadata)), HasSubstr("2 values"));
  values["tokenizer.ggml.token_type"] = std::vector<int64_t>{1, 1};
  values["tokenizer.ggml.pre"] = std::string("no-such-split");
  EXPECT_THAT(Message(LoadGgufTokenizer(metadata)), HasSubstr("no-such-split"));
  values["tokenizer.ggml.pre"] = std::string("gpt-2");
  values["tokenizer.ggml.merges"] = std::vector<std::string>{"a c"};
  EXPECT_THAT(Message(LoadGgufTokenizer(metadata)), HasSubstr("\"c\""));
  values["tokenizer.ggml.merges"] = std::vector<std::string>();
  values["tokenizer.ggml.eos_token_id"] = int64_t{99};
  EXPECT_THAT(Message(LoadGgufTokenizer(metadata)), HasSubstr("eos_token_id"));
  values["tokenizer.ggml.model"] = std::string("bert");
  EXPECT_THAT(Message(LoadGgufTokenizer(metadata)), HasSubstr("bert"));
}

TEST(Tokenizer, EveryPreTokenizerNameOfAGgufCompiles) {
  for (const char* name :
       {"llama-bpe",      "llama3",      "gpt-2",     "qwen2",  "smollm",  "deepseek-llm",
        "deepseek-coder", "deepseek-v3", "starcoder", "refact", "falcon",  "mpt",
        "command-r",      "tekken",      "olmo",      "gpt-4o", "default", "bloom",
        "viking",         "stablelm2",   "glm4",      "dbrx"}) {
    GgufMetadata metadata;
    metadata.values = {{"tokenizer.ggml.model", std::string("gpt2")},
                       {"tokenizer.ggml.pre", std::string(name)},
                       {"tokenizer.ggml.tokens", std::vector<std::string>{"a", "1", "Ġ"}},
                       {"tokenizer.ggml.merges", std::vector<std::string>()}};
    const auto tokenizer = Make(LoadGgufTokenizer(metadata));
    EXPECT_EQ(tokenizer->Encode("a 1", {}), (std::vector<TokenId>{0, 2, 1})) << name;
  }
}

std::string Base64(const std::string& bytes) {
  static constexpr char kDigits[] =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t bits = 0;
    for (size_t j = 0; j < 3; ++j) {
      bits = bits << 8 | (i + j < bytes.size() ? static_cast<unsigned char>(bytes[i + j]) : 0u);
    }
    for (size_t j = 0; j < 4; ++j) {
      text += i + j > bytes.size() ? '=' : kDigits[(bits >> (18 - 6 * j)) & 63];
    }
  }
  return text;
}

/// tiktoken's own definition: join the neighbours whose concatenation has the
/// lowest rank.
std::vector<TokenId> TiktokenByBruteForce(const std::string& word,
                                          const std::map<std::string, TokenId>& ranks) {
  std::vector<std::string> parts;
  for (const char c : word) parts.emplace_back(1, c);
  while (!ranks.contains(word)) {
    size_t best = parts.size();
    TokenId best_rank = INT32_MAX;
    for (size_t i = 0; i + 1 < parts.size(); ++i) {
      const auto rank = ranks.find(parts[i] + parts[i + 1]);
      if (rank != ranks.end() && rank->second < best_rank) {
        best = i;
        best_rank = rank->second;
      }
    }
    if (best == parts.size()) break;
    parts[best] += parts[best + 1];
    parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(best) + 1);
  }
  if (ranks.contains(word)) parts = {word};
  std::vector<TokenId> ids;
  for (const std::string& part : parts) ids.push_back(ranks.at(part));
  return ids;
}

TEST(Tokenizer, TekkenEqualsTiktokensDefinition) {
  std::mt19937 random(5);
  std::map<std::string, TokenId> ranks;
  std::string vocab;
  const auto add = [&](const std::string& bytes) {
    const auto rank = static_cast<TokenId>(ranks.size());
    if (!ranks.emplace(bytes, rank).second) return;
    vocab += (rank == 0 ? "{" : ",{") + std::string("\"rank\":") + std::to_string(rank) +
             ",\"token_bytes\":\"" + Base64(bytes) + "\"}";
  };
  for (int byte = 0; byte < 256; ++byte) add(std::string(1, static_cast<char>(byte)));
  for (int i = 0; i < 150; ++i) {
    std::string token;
    for (auto length = 2 + random() % 4; length > 0; --length) token += "abc\xC3\xA9"[random() % 5];
    add(token);
  }
  const std::string json =
      R"({"config":{"pattern":"[^ ]+| +","default_num_special_tokens":20,"default_vocab_size":)" +
      std::to_string(ranks.size() + 20) + R"(},"vocab":[)" + vocab + "]}";
  const auto tokenizer = Make(LoadTekken(json));
  for (int i = 0; i < 2000; ++i) {
    std::string word;
    for (auto length = 1 + random() % 20; length > 0; --length) {
      static constexpr const char* kParts[] = {"a", "b", "c", "\xC3\xA9"};
      word += kParts[random() % 4];
    }
    auto want = TiktokenByBruteForce(word, ranks);
    for (TokenId& id : want) id += 20;
    EXPECT_EQ(tokenizer->Encode(word, {.add_special = false}), want) << word;
    EXPECT_EQ(tokenizer->Decode(want, false), word);
  }
  EXPECT_EQ(tokenizer->Encode("[INST]a", {.add_special = false}),
            (std::vector<TokenId>{3, 20 + 'a'}));
  EXPECT_EQ(tokenizer->bos(), 1);
}

TEST(Tokenizer, LongRunsTakeLinearTime) {
  const auto tokenizer = Make(LoadTokenizerJson(
      ByteLevelJson({{"a", "a"}, {"aa", "aa"}, {"Ġ", "Ġ"}, {"ĠĠ", "ĠĠ"}, {"ĠĠĠĠ", "ĠĠĠĠ"}})));
  // A quadratic merge would take hours for these.
  EXPECT_EQ(tokenizer->Encode(std::string(1 << 20, 'a'), {}).size(), size_t{1} << 18);
  EXPECT_EQ(tokenizer->Encode(std::string(1 << 20, ' '), {}).size(), size_t{1} << 17);
}

}  // namespace
}  // namespace moxie
