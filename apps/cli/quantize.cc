#include "moxie/quantize.h"

#include <cstdio>
#include <memory>

#include "command.h"
#include "interrupt.h"
#include "options.h"
#include "terminal.h"

namespace moxie::cli {
namespace {

struct QuantizeArguments {
  std::string in;
  std::string out;
  std::string memory = "auto";
  std::vector<std::string> tensor_types;
  QuantizeOptions options;
};

int RunQuantize(const QuantizeArguments& arguments) {
  const InterruptGuard guard;
  QuantizeOptions options = arguments.options;
  options.memory_bytes = ParseSize(arguments.memory).value_or(0);
  for (const std::string& rule : arguments.tensor_types) {
    const size_t equals = rule.rfind('=');
    options.tensor_types.push_back({rule.substr(0, equals), rule.substr(equals + 1)});
  }
  ProgressBar bar("quantising");
  options.progress = [&bar](double share) {
    bar.Show(share);
    return !InterruptGuard::Interrupted();
  };
  const Result<QuantizeReport> done = QuantizeModel(arguments.in, arguments.out, options);
  bar.Clear();
  if (!done) return Fail("quantize", done.error());
  std::string text = FormatBytes(done->bytes_before) + " -> " + FormatBytes(done->bytes_after);
  for (const QuantizeReport::Share& share : done->types)
    text += "\n  " + share.type + ": " + std::to_string(share.tensors) + " tensors, " +
            FormatBytes(share.bytes);
  if (!done->unweighed.empty())
    text += "\n  " + std::to_string(done->unweighed.size()) +
            " matrices without importance, the first of them " + done->unweighed.front();
  std::fprintf(stderr, "%s\n", text.c_str());
  return kDone;
}

}  // namespace

void AddQuantize(Program& program) {
  const auto arguments = std::make_shared<QuantizeArguments>();
  CLI::App* const command =
      AddCommand(program, "quantize", "Write a model's tensors in smaller types",
                 [arguments] { return RunQuantize(*arguments); });
  command->add_option("IN", arguments->in, "A .gguf file (the first of a split set) or a folder")
      ->required();
  command->add_option("OUT.gguf", arguments->out, "Where to write the smaller model")->required();
  command
      ->add_option("--type", arguments->options.type,
                   "One of " + QuantizeTypeNames() +
                       "; q3_k, q4_k and q5_k are the _m mixes. The choices are llama.cpp's")
      ->type_name("T")
      ->required();
  command
      ->add_option("--tensor-type", arguments->tensor_types,
                   "Gives the tensors whose names match this type instead, as in "
                   "'*ffn_down*=q6_k'; the first match counts, and it may be repeated")
      ->type_name("GLOB=TYPE")
      ->expected(1)
      ->take_all()
      ->check(CLI::Validator(
          [](const std::string& text) {
            const size_t equals = text.rfind('=');
            return equals == text.npos || equals == 0 || equals + 1 == text.size()
                       ? "is " + text + ", but must be GLOB=TYPE"
                       : std::string();
          },
          ""));
  command
      ->add_option("--importance", arguments->options.importance,
                   "An importance matrix (GGUF or .dat): errors are weighed by it")
      ->type_name("FILE");
  command
      ->add_option("--memory", arguments->memory,
                   "Memory for buffers, whatever the size of the model; auto is 64MiB")
      ->type_name("SIZE|auto")
      ->check(CLI::Validator(
          [](const std::string& text) {
            return text == "auto" || ParseSize(text).value_or(0) > 0 ? ""
                                                                     : "must be a size or auto";
          },
          ""));
  command->add_option("--threads", arguments->options.threads, "Threads to encode with")
      ->type_name("N")
      ->check(CLI::Range(1, 1024).description(""));
  command->footer(
      "Example:\n"
      "  moxie quantize mixtral-bf16.gguf mixtral-q4.gguf --type q4_k_m --importance i.gguf");
}

}  // namespace moxie::cli
