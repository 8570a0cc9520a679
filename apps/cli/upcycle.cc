#include <memory>

#include "command.h"
#include "moxie/convert.h"
#include "options.h"
#include "terminal.h"

namespace moxie::cli {
namespace {

struct UpcycleArguments {
  std::string in;
  std::string out;
  UpcycleOptions options;
};

int RunUpcycle(const UpcycleArguments& arguments) {
  const Result<void> done = Upcycle(arguments.in, arguments.out, arguments.options);
  return done ? kDone : Fail("upcycle", done.error());
}

}  // namespace

void AddUpcycle(Program& program) {
  const auto arguments = std::make_shared<UpcycleArguments>();
  CLI::App* const command =
      AddCommand(program, "upcycle", "Make a mixture of experts of a dense model",
                 [arguments] { return RunUpcycle(*arguments); });
  command
      ->add_option("IN", arguments->in,
                   "A dense model of the llama or qwen3 family: a .gguf or a folder")
      ->required();
  command->add_option("OUT.gguf", arguments->out, "Where to write the mixture")->required();
  command->add_option("--experts", arguments->options.experts, "Experts of each layer")
      ->type_name("N")
      ->default_str("8")
      ->check(CLI::Range(1, 1024).description(""));
  command->add_option("--used", arguments->options.used, "Experts that each token goes to")
      ->type_name("N")
      ->default_str("2")
      ->check(CLI::Range(1, 1024).description(""));
  command
      ->add_option("--noise", arguments->options.noise,
                   "Standard deviation of the routers' random weights; 0 sends every token to "
                   "the first experts")
      ->type_name("S")
      ->default_str("0")
      ->check(CLI::Range(0.0, 1e6).description(""));
  command->add_option("--seed", arguments->options.seed, "Of the noise")
      ->type_name("N")
      ->default_str("0");
  command->footer(
      "Every expert is a copy of the dense layer's feed-forward, in its own type, so the mixture\n"
      "answers as the dense model does: to the last bit without noise where --used is a power of\n"
      "two, else up to the rounding of the experts' weights. Training makes the experts differ.\n\n"
      "Example:\n"
      "  moxie upcycle SmolLM2-135M-Instruct.Q4_1.gguf mixture.gguf --experts 8 --used 2");
}

}  // namespace moxie::cli
