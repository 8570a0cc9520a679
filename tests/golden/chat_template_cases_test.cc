#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "support/source_dir.h"
#include "tokenizer/chat_template.h"

namespace moxie {
namespace {

using Json = nlohmann::ordered_json;

const Json& Cases() {
  static const Json cases = [] {
    std::ifstream file(SourceDir() / "tests/golden/template_cases.json");
    return Json::parse(file);
  }();
  return cases;
}

/// The text must be Python's, or the error must be one, with raise_exception's message where it was
/// that.
void ExpectLikePython(const Json& expected, const std::string& source, const Json& variables) {
  SCOPED_TRACE(source);
  std::string text, error;
  if (auto compiled = ChatTemplate::Compile(source)) {
    if (auto rendered = compiled->Render(variables.dump())) {
      text = *rendered;
    } else {
      error = rendered.error().message;
    }
  } else {
    error = compiled.error().message;
  }
  if (expected.contains("text")) {
    EXPECT_EQ(error, "");
    EXPECT_EQ(text, expected["text"].get<std::string>());
  } else {
    EXPECT_NE(error, "") << "rendered: " << text;
    EXPECT_NE(error.find(expected["error"].get<std::string>()), std::string::npos) << error;
  }
}

TEST(ChatTemplateCases, ChatsAreAsPythonsJinjaRendersThem) {
  const Json& all = Cases();
  for (const Json& chat : all["chats"]) {
    SCOPED_TRACE(chat["messages"].get<std::string>());
    Json variables = all["extras"][chat["extra"].get<size_t>()];
    variables["messages"] = all["conversations"][chat["messages"].get<std::string>()];
    variables["add_generation_prompt"] = chat["add_generation_prompt"];
    variables["bos_token"] = "<s>";
    variables["eos_token"] = "</s>";
    ExpectLikePython(chat, all["templates"][chat["template"].get<std::string>()], variables);
  }
  EXPECT_GT(all["chats"].size(), 500U);
}

TEST(ChatTemplateCases, EveryFeatureIsAsPythonsJinjaHasIt) {
  const Json& all = Cases();
  for (const Json& small : all["small"])
    ExpectLikePython(small, small["template"], all["variables"]);
  EXPECT_GT(all["small"].size(), 1500U);
}

}  // namespace
}  // namespace moxie
