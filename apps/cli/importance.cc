#include <cstdio>
#include <memory>

#include "command.h"
#include "files.h"
#include "interrupt.h"
#include "moxie/quantize.h"
#include "options.h"
#include "terminal.h"

namespace moxie::cli {
namespace {

struct ImportanceArguments {
  ModelArguments model;
  std::string file;
  std::string out;
  int64_t chunks = -1;
};

int RunImportance(const ImportanceArguments& arguments) {
  const InterruptGuard guard;
  const Result<std::string> text = ReadFile(arguments.file);
  if (!text) return Fail("importance", text.error());
  ModelOptions options = arguments.model.ToOptions();
  ImportanceOptions measure;
  if (options.context > 0) measure.window = options.context;
  options.context = measure.window;
  measure.chunks = arguments.chunks;
  measure.dataset = arguments.file;
  const Result<std::unique_ptr<Model>> model = Model::Open(arguments.model.model, options);
  if (!model) return Fail("importance", model.error());
  ProgressBar bar("measuring importance");
  const Result<ImportanceReport> done =
      MeasureImportance(**model, *text, arguments.out, measure, [&bar](double share) {
        bar.Show(share);
        return !InterruptGuard::Interrupted();
      });
  bar.Clear();
  if (!done) return Fail("importance", done.error());
  std::fprintf(stderr, "%lld matrices measured in %lld windows\n",
               static_cast<long long>(done->matrices), static_cast<long long>(done->windows));
  if (!done->unreached.empty())
    std::fprintf(stderr, "%zu experts' matrices were reached by no token, the first of them %s\n",
                 done->unreached.size(), done->unreached.front().c_str());
  return kDone;
}

}  // namespace

void AddImportance(Program& program) {
  const auto arguments = std::make_shared<ImportanceArguments>();
  CLI::App* const command =
      AddCommand(program, "importance", "Measure which weights matter on a text, for quantize",
                 [arguments] { return RunImportance(*arguments); });
  AddModelOptions(*command, arguments->model);
  command->get_option("--context")->description("Tokens of a window; 512 if absent");
  command->add_option("--file", arguments->file, "The text; - for standard input")
      ->type_name("FILE")
      ->required();
  command->add_option("--out", arguments->out, "The importance matrix, in llama.cpp's GGUF form")
      ->type_name("FILE")
      ->required();
  command->add_option("--chunks", arguments->chunks, "Take the first K windows only")
      ->type_name("K")
      ->check(CLI::PositiveNumber.description(""));
}

}  // namespace moxie::cli
