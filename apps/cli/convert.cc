#include "moxie/convert.h"

#include <memory>

#include "command.h"
#include "interrupt.h"
#include "options.h"
#include "terminal.h"

namespace moxie::cli {
namespace {

struct ConvertArguments {
  std::string in;
  std::string out;
  std::string split;
  std::string memory = "auto";
  ConvertOptions options;
};

int RunConvert(const ConvertArguments& arguments) {
  const InterruptGuard guard;
  ConvertOptions options = arguments.options;
  options.split_bytes = ParseSize(arguments.split).value_or(0);
  options.memory_bytes = ParseSize(arguments.memory).value_or(0);
  ProgressBar bar("converting");
  options.progress = [&bar](double share) {
    bar.Show(share);
    return !InterruptGuard::Interrupted();
  };
  const Result<void> done = Convert(arguments.in, arguments.out, options);
  bar.Clear();
  if (!done && done.error().code == ErrorCode::kCancelled) return kInterrupted;
  return done ? kDone : Fail("convert", done.error());
}

}  // namespace

void AddConvert(Program& program) {
  const auto arguments = std::make_shared<ConvertArguments>();
  CLI::App* const command =
      AddCommand(program, "convert", "Convert a model folder to a GGUF, or a GGUF to a folder",
                 [arguments] { return RunConvert(*arguments); });
  command
      ->add_option("IN", arguments->in,
                   "A model folder (Hugging Face's or consolidated), or a .gguf file")
      ->required();
  command->add_option("OUT", arguments->out, "The .gguf file to write, or the folder")->required();
  command
      ->add_option("--type", arguments->options.type,
                   "Type of the matrices: bf16, f16, f32, and for a GGUF q8_0, q4_k, ...; without "
                   "it each keeps its own")
      ->type_name("T");
  const auto size = CLI::Validator(
      [](const std::string& text) {
        return ParseSize(text).value_or(0) > 0 ? "" : "must be a size such as 4GiB";
      },
      "");
  command
      ->add_option("--split", arguments->split,
                   "Write several files, each with tensors of at most this size")
      ->type_name("SIZE")
      ->check(size);
  command
      ->add_option("--memory", arguments->memory,
                   "Memory for buffers, whatever the size of the model; auto is 64MiB")
      ->type_name("SIZE|auto")
      ->check(CLI::Validator(
          [size](std::string text) { return text == "auto" ? std::string() : size(text); }, ""));
  command->add_option("--threads", arguments->options.threads, "Threads to encode with")
      ->type_name("N")
      ->check(CLI::Range(1, 1024).description(""));
  command->footer(
      "A GGUF carries everything: names, settings, tokenizer and chat template, as llama.cpp's\n"
      "converter writes them. A tokenizer that a GGUF cannot say is refused.\n\n"
      "Examples:\n"
      "  moxie convert Mixtral-8x7B-Instruct-v0.1 mixtral.gguf --type q8_0\n"
      "  moxie convert mixtral.gguf mixtral-folder --type bf16");
}

}  // namespace moxie::cli
