// Compiles constraints and tries texts on them, for tests that compare with other libraries.
//
// usage: constraint_tool [MODEL]   (its tokenizer; a made-up vocabulary where there is none)
// stdin: a JSON object a line: {"kind": "schema" | "regex" | "gbnf" | "choice" | "tools", "text":
// ...,
//   "options": {...}, "accept": [texts to try], "samples": texts to make, "seed": n, "tokens": at
//   most}
// stdout: a JSON object a line: {"error": ...} or {"accepted": [...], "samples": [[text, whether it
//   ended by itself], ...]}
#include <algorithm>
#include <iostream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <string>

#include "moxie/constraint.h"
#include "support/fake_tokenizer.h"

namespace {

using moxie::ConstraintCompiler;
using moxie::ConstraintPtr;
using moxie::ConstraintState;
using moxie::TokenId;
using Json = nlohmann::json;

moxie::Result<ConstraintPtr> Compile(const ConstraintCompiler& compiler, const Json& request) {
  const std::string kind = request.at("kind");
  const Json options = request.value("options", Json::object());
  if (kind == "regex") return compiler.Regex(request.at("text").get<std::string>());
  if (kind == "gbnf") return compiler.Gbnf(request.at("text").get<std::string>());
  if (kind == "choice") return compiler.Choice(request.at("text"));
  if (kind == "tools") {
    static const std::map<std::string, moxie::ToolCallFormat> kFormats = {
        {"mistral", moxie::ToolCallFormat::kMistral},
        {"llama3", moxie::ToolCallFormat::kLlama3},
        {"hermes", moxie::ToolCallFormat::kHermes},
        {"generic", moxie::ToolCallFormat::kGeneric}};
    return compiler.ToolCalls(request.at("text").get<std::string>(),
                              {.format = kFormats.at(options.at("format")),
                               .choice = options.at("choice"),
                               .parallel = options.value("parallel", true)});
  }
  moxie::JsonSchemaOptions schema;
  schema.additional_properties = options.value("additional_properties", true);
  schema.whitespace = options.value("whitespace", true);
  return compiler.JsonSchema(request.at("text").get<std::string>(), schema);
}

bool Accepts(const ConstraintPtr& constraint, const moxie::Tokenizer& tokenizer,
             const std::string& text) {
  ConstraintState state(constraint);
  for (const TokenId id : tokenizer.Encode(text, {.add_special = false, .parse_special = true})) {
    if (!state.Advance(id)) return false;
  }
  return state.can_end();
}

/// A text of random allowed tokens. After half of `most`, such as tend to close what is open.
Json Sample(const ConstraintPtr& constraint, const moxie::Tokenizer& tokenizer,
            std::mt19937_64* random, int most) {
  static const std::string kClosing = "\"]}),";
  ConstraintState state(constraint);
  std::vector<TokenId> ids;
  for (int step = 0; step < most && !state.must_end(); ++step) {
    const auto mask = state.Mask();
    if (!mask) return {mask.error().message, false};
    std::vector<TokenId> allowed;
    std::vector<TokenId> closing;
    bool ends = false;
    for (TokenId id = 0; id < tokenizer.vocab_size(); ++id) {
      if (((*mask)[static_cast<size_t>(id) / 64] >> (id % 64) & 1) == 0) continue;
      const auto& stops = tokenizer.stop_tokens();
      if (std::find(stops.begin(), stops.end(), id) != stops.end()) {
        ends = true;
        continue;
      }
      allowed.push_back(id);
      const std::string bytes = tokenizer.Bytes(id);
      if (bytes.size() == 1 && kClosing.find(bytes[0]) != std::string::npos) closing.push_back(id);
    }
    if (allowed.empty() || (ends && (*random)() % 4 == 0)) break;
    if (step > most / 2 && !closing.empty() && (*random)() % 4 != 0) allowed = closing;
    const TokenId token = allowed[(*random)() % allowed.size()];
    if (!state.Advance(token)) return {"a token of the mask was not taken", false};
    ids.push_back(token);
  }
  return {tokenizer.Decode(ids, false), state.can_end()};
}

Json Answer(const ConstraintCompiler& compiler, const moxie::Tokenizer& tokenizer,
            const Json& request) {
  const auto constraint = Compile(compiler, request);
  if (!constraint) return {{"error", constraint.error().message}};
  Json answer = {{"accepted", Json::array()}, {"samples", Json::array()}};
  for (const std::string text : request.value("accept", Json::array()))
    answer["accepted"].push_back(Accepts(*constraint, tokenizer, text));
  std::mt19937_64 random(request.value("seed", 0));
  for (int i = 0; i < request.value("samples", 0); ++i)
    answer["samples"].push_back(
        Sample(*constraint, tokenizer, &random, request.value("tokens", 300)));
  return answer;
}

}  // namespace

int main(int argc, char** argv) {
  std::unique_ptr<moxie::Tokenizer> tokenizer;
  if (argc > 1) {
    auto opened = moxie::OpenTokenizer(argv[1]);
    if (!opened) {
      std::cerr << opened.error().message << "\n";
      return 1;
    }
    tokenizer = std::move(*opened);
  } else {
    tokenizer = std::make_unique<moxie::testing::FakeTokenizer>(std::vector<std::string>{
        "{\"",   "\":",  "\": ",     "\",",          "\"}",          "\"]",  "],",
        "}}",    ", \"", "[[",       "[]",           "{}",           "true", "false",
        "null",  "name", "\xC3\xA4", "\xE2\x82\xAC", "\xF0\x9F\x98", "12",   "00",
        ".5",    "e1",   "\\u",      "\\\"",         "\n  ",         "  ",   "abc",
        "value", "-1",   "2024-0",   "ation",        "the "});
  }
  const ConstraintCompiler compiler(*tokenizer);
  std::string line;
  while (std::getline(std::cin, line)) {
    std::cout << Answer(compiler, *tokenizer, Json::parse(line))
                     .dump(-1, ' ', false, Json::error_handler_t::replace)
              << std::endl;
  }
}
