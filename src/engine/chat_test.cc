#include "moxie/chat.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "support/shared.h"

namespace moxie {
namespace {

using Json = nlohmann::ordered_json;

std::unique_ptr<Model> Open(const std::string& path) {
  ModelOptions options;
  options.threads = 1;
  options.context = 64;
  Result<std::unique_ptr<Model>> model = Model::Open(path, options);
  EXPECT_TRUE(model) << model.error().message;
  return model ? std::move(*model) : nullptr;
}

Message ToMessage(Json json) {
  Message message{json["role"], json["content"].is_string() ? json["content"] : "", ""};
  if (json["content"].is_string()) json.erase("content");
  json.erase("role");
  if (!json.empty()) message.fields_json = json.dump();
  return message;
}

// Conversations as transformers renders and tokenises them, or refuses them.
TEST(Chat, RendersAndEncodesAsTransformersDoes) {
  const auto shared = testing::SharedDir();
  if (!shared) GTEST_SKIP() << "no reference data beside the checkout";
  int conversations = 0;
  for (const auto& folder : std::filesystem::directory_iterator(*shared / "golden")) {
    std::ifstream in(folder.path() / "golden.json");
    if (!in || !std::filesystem::exists(folder.path() / "config.json")) continue;
    const Json reference = Json::parse(in);
    if (!reference.contains("chat") || reference["chat"].empty()) continue;
    const auto model = Open(folder.path());
    ASSERT_NE(model, nullptr);
    if (!model->has_chat_template()) continue;
    for (const Json& item : reference["chat"]) {
      SCOPED_TRACE(folder.path().filename().string() + " " + item["name"].get<std::string>());
      std::vector<Message> messages;
      for (const Json& message : item["messages"]) messages.push_back(ToMessage(message));
      ChatOptions options;
      options.add_generation_prompt = item["add_generation_prompt"];
      if (item.contains("tools")) options.tools_json = item["tools"].dump();
      const Result<std::string> text = RenderChat(*model, messages, options);
      ++conversations;
      if (item.contains("error")) {
        ASSERT_FALSE(text);
        EXPECT_NE(text.error().message.find(item["error"].get<std::string>()), std::string::npos)
            << text.error().message;
        continue;
      }
      ASSERT_TRUE(text) << text.error().message;
      EXPECT_EQ(*text, item["text"].get<std::string>());
      const Result<std::vector<TokenId>> ids = EncodeChat(*model, messages, options);
      ASSERT_TRUE(ids);
      EXPECT_EQ(*ids, item["ids"].get<std::vector<TokenId>>());
    }
  }
  EXPECT_GT(conversations, 100);
}

TEST(Chat, RefusesJsonThatIsNone) {
  const auto shared = testing::SharedDir();
  if (!shared) GTEST_SKIP() << "no reference data beside the checkout";
  const auto model = Open(*shared / "golden/qwen3moe");
  ASSERT_NE(model, nullptr);
  const std::vector<Message> messages = {{"user", "hello", ""}};
  for (const std::string& tools : {std::string("{}"), std::string("["), std::string(100000, '[')}) {
    ChatOptions options;
    options.tools_json = tools;
    EXPECT_FALSE(RenderChat(*model, messages, options));
  }
  EXPECT_FALSE(RenderChat(*model, {{"user", "hello", "[1]"}}));
}

}  // namespace
}  // namespace moxie
