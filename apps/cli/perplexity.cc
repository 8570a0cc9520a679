#include <memory>
#include <nlohmann/json.hpp>

#include "command.h"
#include "files.h"
#include "interrupt.h"
#include "moxie/evaluate.h"
#include "options.h"
#include "terminal.h"

namespace moxie::cli {
namespace {

struct PerplexityArguments {
  ModelArguments model;
  std::string file;
  int64_t chunks = -1;
  std::string base;
  bool json = false;
};

int Measure(const PerplexityArguments& arguments) {
  const InterruptGuard guard;
  const Result<std::string> text = ReadFile(arguments.file);
  if (!text) return Fail("perplexity", text.error());
  ModelOptions options = arguments.model.ToOptions();
  PerplexityOptions measure;
  if (options.context > 0) measure.window = options.context;
  options.context = measure.window;
  measure.chunks = arguments.chunks;
  const Result<std::unique_ptr<Model>> model = Model::Open(arguments.model.model, options);
  if (!model) return Fail("perplexity", model.error());
  std::unique_ptr<Model> base;
  if (!arguments.base.empty()) {
    Result<std::unique_ptr<Model>> opened = Model::Open(arguments.base, options);
    if (!opened) return Fail("perplexity", opened.error());
    base = std::move(*opened);
  }
  ProgressBar bar("measuring perplexity");
  const Result<Perplexity> result = MeasurePerplexity(
      **model, *text, measure,
      [&](double share) {
        bar.Show(share);
        return !InterruptGuard::Interrupted();
      },
      base.get());
  bar.Clear();
  if (!result) return Fail("perplexity", arguments.file, result.error());
  if (arguments.json) {
    nlohmann::ordered_json out = {{"perplexity", result->perplexity},
                                  {"stderr", result->standard_error},
                                  {"tokens", result->tokens}};
    if (const auto& divergence = result->divergence; divergence) {
      out["divergence"] = divergence->mean;
      out["divergence_stderr"] = divergence->standard_error;
      out["same_choice"] = divergence->same_choice;
      out["base_perplexity"] = divergence->base_perplexity;
    }
    Print(out.dump() + "\n");
  } else {
    Print("perplexity " + FormatFixed(result->perplexity, 4) + " +/- " +
          FormatFixed(result->standard_error, 4) + " (" + std::to_string(result->tokens) +
          " tokens scored in " + std::to_string(result->windows) + " windows of " +
          std::to_string(measure.window) + ")\n");
    if (const auto& divergence = result->divergence; divergence)
      Print("divergence " + FormatFixed(divergence->mean, 5) + " +/- " +
            FormatFixed(divergence->standard_error, 5) + " nats from a perplexity of " +
            FormatFixed(divergence->base_perplexity, 4) + ", the same choice for " +
            FormatFixed(100 * divergence->same_choice, 2) + " % of the tokens\n");
  }
  return kDone;
}

}  // namespace

void AddPerplexity(Program& program) {
  const auto arguments = std::make_shared<PerplexityArguments>();
  CLI::App* const command =
      AddCommand(program, "perplexity", "Measure how well a model predicts a text",
                 [arguments] { return Measure(*arguments); });
  AddModelOptions(*command, arguments->model);
  command->get_option("--context")->description("Tokens of a window; 512 if absent");
  command->add_option("--file", arguments->file, "The text; - for standard input")
      ->type_name("FILE")
      ->required();
  command->add_option("--chunks", arguments->chunks, "Measure the first K windows only")
      ->type_name("K")
      ->check(CLI::PositiveNumber.description(""));
  command
      ->add_option("--against", arguments->base,
                   "Another model of the same vocabulary, such as the one before quantising: also "
                   "measures the Kullback-Leibler divergence from its probabilities")
      ->type_name("MODEL");
  command->add_flag("--json", arguments->json, "Print one JSON object: perplexity, stderr, tokens");
  command->footer(
      "The convention is llama.cpp's, so that figures compare: the text is cut into windows side\n"
      "by side, the first token of each is replaced by BOS where the model adds one, and the "
      "second\n"
      "half of each is scored.");
}

}  // namespace moxie::cli
