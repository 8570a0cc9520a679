#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "command.h"
#include "files.h"
#include "moxie/tokenizer.h"
#include "options.h"
#include "terminal.h"

namespace moxie::cli {
namespace {

struct TokenizeArguments {
  std::string model;
  std::string text;
  CLI::Option* text_option = nullptr;
  std::string file;
  bool json = false;
  bool no_special = false;
};

struct DetokenizeArguments {
  std::string model;
  std::string ids_file;
};

/// Tabs and line ends within a piece would break the table of one line a token.
std::string OneLine(const std::string& piece) {
  std::string out;
  for (const char c : piece) {
    const auto byte = static_cast<unsigned char>(c);
    char escaped[5];
    std::snprintf(escaped, sizeof(escaped), "\\x%02x", byte);
    out += byte < 0x20 || byte == 0x7f ? std::string(escaped) : std::string(1, c);
  }
  return out;
}

int Flush(const std::string& command) {
  if (std::fflush(stdout) == 0) return kDone;
  return Fail(command, {ErrorCode::kIo, "standard output: cannot be written"});
}

int Tokenize(const TokenizeArguments& arguments) {
  const Result<std::unique_ptr<Tokenizer>> tokenizer = OpenTokenizer(arguments.model);
  if (!tokenizer) return Fail("tokenize", tokenizer.error());
  Result<std::string> text = arguments.text;
  if (arguments.text_option->count() == 0) text = ReadFile(arguments.file);
  if (!text) return Fail("tokenize", text.error());
  const bool special = !arguments.no_special;
  const std::vector<TokenId> ids =
      (*tokenizer)->Encode(*text, {.add_special = special, .parse_special = special});
  if (arguments.json) {
    Print(nlohmann::json(ids).dump() + "\n");
  } else {
    for (const TokenId id : ids)
      Print(std::to_string(id) + "\t" + OneLine((*tokenizer)->Piece(id)) + "\n");
  }
  return Flush("tokenize");
}

int Detokenize(const DetokenizeArguments& arguments) {
  const Result<std::unique_ptr<Tokenizer>> tokenizer = OpenTokenizer(arguments.model);
  if (!tokenizer) return Fail("detokenize", tokenizer.error());
  const Result<std::vector<TokenId>> ids = ReadIds(arguments.ids_file);
  if (!ids) return Fail("detokenize", ids.error());
  Print((*tokenizer)->Decode(*ids, /*skip_special=*/false));
  return Flush("detokenize");
}

}  // namespace

void AddTokenize(Program& program) {
  const auto arguments = std::make_shared<TokenizeArguments>();
  CLI::App* const command = AddCommand(program, "tokenize", "Show a text as token ids",
                                       [arguments] { return Tokenize(*arguments); });
  AddModelArgument(*command, arguments->model);
  arguments->text_option = command->add_option(
      "TEXT", arguments->text, "The text; read from standard input if absent, to the last byte");
  command->add_option("--file", arguments->file, "Read the text from this file")
      ->type_name("FILE")
      ->excludes(arguments->text_option);
  command->add_flag("--json", arguments->json,
                    "Print one JSON array of ids instead of a line `id<TAB>piece` each");
  command->add_flag("--no-special", arguments->no_special,
                    "Add no BOS or EOS, and read special tokens' text as plain text");
}

void AddDetokenize(Program& program) {
  const auto arguments = std::make_shared<DetokenizeArguments>();
  CLI::App* const command = AddCommand(program, "detokenize", "Turn token ids back into text",
                                       [arguments] { return Detokenize(*arguments); });
  AddModelArgument(*command, arguments->model);
  command
      ->add_option("--ids-file", arguments->ids_file,
                   "A JSON array of token ids; - for standard input")
      ->type_name("FILE")
      ->required();
}

}  // namespace moxie::cli
