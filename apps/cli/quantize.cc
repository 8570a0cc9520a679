#include "moxie/quantize.h"

#include <cstdio>
#include <memory>

#include "choices_table.h"
#include "command.h"
#include "files.h"
#include "interrupt.h"
#include "options.h"
#include "terminal.h"

namespace moxie::cli {
namespace {

struct QuantizeArguments {
  std::string in;
  std::string out;
  std::string memory = "auto";
  std::string size;
  std::string file;
  std::vector<std::string> tensor_types;
  QuantizeOptions options;
};

void PrintReport(const QuantizeReport& done) {
  std::string text = ChoicesTable(done.choices);
  double divergence = 0;
  for (const QuantizeReport::Choice& choice : done.choices) divergence += choice.divergence;
  if (!done.choices.empty())
    text += "a divergence of " + FormatFixed(divergence, 4) + " nats a token is expected\n";
  text += FormatBytes(done.bytes_before) + " -> " + FormatBytes(done.bytes_after);
  for (const QuantizeReport::Share& share : done.types)
    text += "\n  " + share.type + ": " + std::to_string(share.tensors) + " tensors, " +
            FormatBytes(share.bytes);
  if (!done.unweighed.empty())
    text += "\n  " + std::to_string(done.unweighed.size()) +
            " matrices without importance, the first of them " + done.unweighed.front();
  std::fprintf(stderr, "%s\n", text.c_str());
}

int RunQuantize(const QuantizeArguments& arguments) {
  const InterruptGuard guard;
  QuantizeOptions options = arguments.options;
  options.memory_bytes = ParseSize(arguments.memory).value_or(0);
  options.size_bytes = ParseSize(arguments.size).value_or(0);
  if (!arguments.file.empty()) {
    const Result<std::string> text = ReadFile(arguments.file);
    if (!text) return Fail("quantize", text.error());
    options.text = *text;
    options.text_name = arguments.file;
  }
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
  PrintReport(*done);
  return kDone;
}

CLI::Validator Check(bool (*good)(const std::string&), const std::string& wanted) {
  return {[=](const std::string& text) {
            return good(text) ? std::string() : "is " + text + ", but must be " + wanted;
          },
          ""};
}

/// What the file is to become: a type, or as good as a size allows.
void AddAims(CLI::App& command, QuantizeArguments& arguments) {
  CLI::Option* const type =
      command
          .add_option("--type", arguments.options.type,
                      "One of " + QuantizeTypeNames() +
                          "; q3_k, q4_k and q5_k are the _m mixes. The choices are llama.cpp's")
          ->type_name("T");
  CLI::Option* const size =
      command
          .add_option("--size", arguments.size,
                      "The file's size at most: each matrix, and each expert's, gets the type "
                      "that keeps the model closest to itself on the text of --file")
          ->type_name("SIZE")
          ->check(Check([](const std::string& text) { return ParseSize(text).value_or(0) > 0; },
                        "a size"));
  CLI::Option* const bits = command
                                .add_option("--bits", arguments.options.bits,
                                            "The same for the mean bits of a weight, such as 3.5")
                                ->type_name("B")
                                ->check(CLI::Range(1.0, 32.0).description(""));
  size->excludes(type);
  bits->excludes(type)->excludes(size);
  command.parse_complete_callback([=] {
    if (type->empty() && size->empty() && bits->empty())
      throw CLI::RequiredError("one of --type, --size and --bits");
  });
  CLI::Option* const file =
      command
          .add_option("--file", arguments.file,
                      "For --size and --bits: a text that is typical of what the model is for, of "
                      "some thousand tokens; - for standard input")
          ->type_name("FILE");
  size->needs(file);
  bits->needs(file);
  command
      .add_option("--probes", arguments.options.probes,
                  "For --size and --bits: a file that keeps what probing measures, and spares "
                  "measuring it again for further sizes of the model")
      ->type_name("FILE");
  command.add_flag("--stacked", arguments.options.stacked,
                   "For --size and --bits: one type for all experts of a layer, in one tensor, "
                   "which other programs read");
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
  AddAims(*command, *arguments);
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
      "  moxie quantize mixtral-bf16.gguf mixtral-q4.gguf --type q4_k_m --importance i.gguf\n"
      "  moxie quantize mixtral-bf16.gguf mixtral-12.gguf --size 12GiB --file text.txt");
}

}  // namespace moxie::cli
