#include "tokenizer/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "support/shared.h"

namespace moxie {
namespace {

using Json = nlohmann::ordered_json;
using ::testing::HasSubstr;

std::string ReadFile(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

/// The rendered text, or "error: " and the message.
std::string Render(std::string_view source, const std::string& variables = "{}",
                   const TemplateLimits& limits = {}) {
  const Result<ChatTemplate> compiled = ChatTemplate::Compile(source);
  if (!compiled) return "error: " + compiled.error().message;
  const Result<std::string> text = compiled->Render(variables, limits);
  return text ? *text : "error: " + text.error().message;
}

TEST(ChatTemplate, GivesTheTextsOfEveryGoldenModel) {
  const auto shared = testing::SharedDir();
  if (!shared) GTEST_SKIP() << "no reference data beside the checkout";
  int cases = 0;
  for (const auto& folder : std::filesystem::directory_iterator(*shared / "golden")) {
    if (!std::filesystem::exists(folder.path() / "tokenizer_config.json")) continue;
    const Json golden = Json::parse(ReadFile(folder.path() / "golden.json"));
    const Json config = Json::parse(ReadFile(folder.path() / "tokenizer_config.json"));
    const auto file = folder.path() / "chat_template.jinja";
    if (!golden.contains("chat")) continue;
    const std::string source = std::filesystem::exists(file)
                                   ? ReadFile(file)
                                   : config.value("chat_template", std::string());
    for (const Json& chat : golden["chat"]) {
      SCOPED_TRACE(folder.path().filename().string() + ", " + chat["name"].get<std::string>());
      Json variables = chat;
      for (const auto& [key, value] : config.items()) {
        if (key.ends_with("_token")) variables[key] = value.is_object() ? value["content"] : value;
      }
      const std::string got = Render(source, variables.dump());
      if (chat.contains("text")) {
        EXPECT_EQ(got, chat["text"].get<std::string>());
      } else {
        EXPECT_THAT(got, HasSubstr(chat["error"].get<std::string>()));
      }
      ++cases;
    }
  }
  EXPECT_GT(cases, 200);
}

TEST(ChatTemplate, ErrorsNameTheLine) {
  EXPECT_EQ(Render("a\n{{ x.y }}"), "error: chat template line 2: 'x' is undefined");
  EXPECT_EQ(Render("\n\n{% if %}"),
            "error: chat template line 3: expected an expression, found '%}'");
  EXPECT_EQ(Render("{{ raise_exception('no ' ~ 1) }}"), "error: chat template line 1: no 1");
  EXPECT_EQ(Render("{{ raise_exception('a\\nb') }}"), "error: chat template line 1: a b");
  EXPECT_EQ(Render("{% for x in y %}\n"),
            "error: chat template line 1: expected {% endfor %}, found end of template");
  EXPECT_EQ(Render("{% include 'x' %}"),
            "error: chat template line 1: {% include %} is refused: a chat template stands alone");
  EXPECT_EQ(Render("x", "[1]"),
            "error: chat template: the template's variables are no JSON object");
}

TEST(ChatTemplate, LimitsHoldWhateverTheTemplateDoes) {
  const TemplateLimits limits = {.steps = 100'000, .depth = 50, .output_bytes = 10'000};
  const auto render = [&](std::string_view source) { return Render(source, "{}", limits); };
  const std::string nested =
      "{% for a in range(1000) %}{% for b in range(1000) %}{% endfor %}{% endfor %}";
  EXPECT_THAT(render(nested), HasSubstr("steps"));
  EXPECT_THAT(render("{{ 'x' * 20000 }}"), HasSubstr("bytes, the limit"));
  EXPECT_THAT(render("{{ 'x' * 1000000000000 }}"), HasSubstr("error"));
  EXPECT_THAT(render("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"),
              HasSubstr("levels, the limit"));
  EXPECT_THAT(render("{% set n = namespace(x='x') %}{% for i in range(60) %}"
                     "{% set n.x = n.x ~ n.x %}{% endfor %}"),
              HasSubstr("steps"));
  // A value that holds another twice, sixty times over, is small in memory and endless to walk.
  const std::string doubling =
      "{% set n = namespace(x=1) %}{% for i in range(60) %}{% set n.x = (n.x, n.x) %}{% endfor %}";
  EXPECT_THAT(render(doubling + "{{ n.x }}"), HasSubstr("steps"));
  EXPECT_THAT(render(doubling + "{{ n.x|tojson }}"), HasSubstr("steps"));
  EXPECT_THAT(render(doubling + "{{ {n.x: 1} }}"), HasSubstr("steps"));
  EXPECT_THAT(render(doubling + "{{ n.x in [n.x] }}"), HasSubstr("steps"));
}

TEST(ChatTemplate, DeepNestingIsRefusedNotFollowed) {
  const auto repeat = [](std::string_view text, int n) {
    std::string out;
    for (int i = 0; i < n; ++i) out += text;
    return out;
  };
  constexpr int kMany = 100'000;
  for (const std::string_view open :
       {"(", "[", "{1:", "-", "not ", "f(", "x[", "1 if 1 else ", "a|f(", "1 is eq ("})
    EXPECT_THAT(Render("{{ " + repeat(open, kMany) + "1"), HasSubstr("error")) << open;
  for (const std::string_view chain : {"+ 1", ".a", "[0]", "|f", "()", " and 1", "** 1"})
    EXPECT_THAT(Render("{{ 1 " + repeat(chain, kMany) + " }}"), HasSubstr("error")) << chain;
  for (const std::string_view block :
       {"{% if 1 %}", "{% for x in y %}", "{% macro m() %}", "{% set x %}", "{% with %}"})
    EXPECT_THAT(Render(repeat(block, kMany)), HasSubstr("error")) << block;
  EXPECT_THAT(Render("x", "{\"a\":" + repeat("[", kMany)), HasSubstr("nested deeper"));
  EXPECT_EQ(Render("{% if 0 %}" + repeat("{% elif 0 %}", 10'000) + "{% else %}x{% endif %}"), "x");
  const std::string nest = "{% set n = namespace(x=1) %}{% for i in range(5000) %}{% set n.x = ";
  EXPECT_THAT(Render(nest + "[n.x] %}{% endfor %}"), HasSubstr("nest deeper"));
  EXPECT_THAT(Render(nest + "[[n.x].index] %}{% endfor %}"), HasSubstr("nest deeper"));
  EXPECT_EQ(Render(nest + "namespace(y=n.x) %}{% endfor %}"), "");
}

TEST(ChatTemplate, RingsAreFreed) {
  // Seen by the address sanitizer's leak check.
  EXPECT_EQ(Render("{% set n = namespace() %}{% set n.n = n %}{% macro m() %}{{ m }}{% endmacro %}"
                   "{% set n.m = m %}{% for x in [1] %}{{ loop.changed(loop) }}{% set n.l = loop "
                   "%}{% endfor %}"),
            "True");
}

TEST(ChatTemplate, SandboxGivesNoWayOut) {
  for (const std::string source : {"{{ ''.__class__.__mro__ }}", "{{ messages.append(1) }}",
                                   "{{ cycler.__init__.__globals__ }}", "{{ {}.update({}) }}",
                                   "{{ [].pop() }}", "{{ self.x() }}", "{{ lipsum() }}"})
    EXPECT_THAT(Render(source, R"({"messages": []})"), HasSubstr("error")) << source;
  EXPECT_EQ(Render("{{ ''.__class__ }}|{{ config }}|{{ self }}"), "||");
}

TEST(ChatTemplate, BadTextIsRefused) {
  EXPECT_THAT(Render("\xff"), HasSubstr("not valid UTF-8"));
  EXPECT_THAT(Render("{{ '\\ud800' }}"), HasSubstr("no Unicode character"));
  EXPECT_THAT(Render("x", "{\"a\": \"\xff\"}"), HasSubstr("not valid JSON"));
  EXPECT_THAT(Render("{{ 99999999999999999999 }}"), HasSubstr("64 bits"));
  EXPECT_THAT(Render("{{ 9223372036854775807 + 1 }}"), HasSubstr("64 bits"));
  EXPECT_EQ(Render("{{ x }} {{ x|tojson }}", R"({"x": 18446744073709551616})"),
            "18446744073709551616 18446744073709551616");
}

TEST(ChatTemplate, TimeIsFormatted) {
  EXPECT_THAT(Render("{{ strftime_now('%Y-%m-%d') }}"),
              ::testing::MatchesRegex("20[0-9]{2}-[01][0-9]-[0-3][0-9]"));
  EXPECT_EQ(Render("{{ strftime_now('') }}|{{ strftime_now('%%') }}"), "|%");
}

}  // namespace
}  // namespace moxie
