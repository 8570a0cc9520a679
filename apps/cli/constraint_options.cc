#include "constraint_options.h"

#include "files.h"

namespace moxie::cli {
namespace {

constexpr char kGroup[] = "Constrained output (one of them)";

bool IsJson(const std::string& text) {
  const size_t first = text.find_first_not_of(" \t\r\n");
  return first != std::string::npos && text[first] == '{';
}

}  // namespace

void AddConstraintOptions(CLI::App& command, ConstraintArguments& arguments) {
  CLI::Option* const schema =
      command
          .add_option("--json-schema", arguments.json_schema,
                      "Answers with JSON that satisfies this schema, given as a file or as JSON")
          ->type_name("FILE|JSON");
  CLI::Option* const grammar =
      command
          .add_option("--grammar", arguments.grammar_file,
                      "Answers with a text of this grammar, in llama.cpp's notation (GBNF)")
          ->type_name("FILE");
  CLI::Option* const regex =
      command
          .add_option("--regex", arguments.regex,
                      "Answers with a text that matches this regular expression as a whole")
          ->type_name("R");
  CLI::Option* const choice =
      command
          .add_option("--choice", arguments.choices,
                      "Answers with this text, or another one given so; may be repeated")
          ->type_name("TEXT")
          ->expected(1)
          ->take_all();
  const std::vector<CLI::Option*> all = {schema, grammar, regex, choice};
  for (size_t i = 0; i < all.size(); ++i) {
    all[i]->group(kGroup);
    for (size_t k = 0; k < i; ++k) all[i]->excludes(all[k]);
  }
}

Result<ConstraintPtr> MakeConstraint(const ConstraintArguments& arguments,
                                     const Tokenizer& tokenizer) {
  const ConstraintCompiler compiler(tokenizer);
  if (!arguments.choices.empty()) return compiler.Choice(arguments.choices);
  if (!arguments.regex.empty()) return compiler.Regex(arguments.regex);
  if (!arguments.grammar_file.empty()) {
    MOXIE_TRY_ASSIGN(const std::string text, ReadFile(arguments.grammar_file));
    return compiler.Gbnf(text);
  }
  if (arguments.json_schema.empty()) return ConstraintPtr();
  if (IsJson(arguments.json_schema)) return compiler.JsonSchema(arguments.json_schema);
  MOXIE_TRY_ASSIGN(const std::string text, ReadFile(arguments.json_schema));
  return compiler.JsonSchema(text);
}

}  // namespace moxie::cli
