#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>

#include "answer.h"
#include "command.h"
#include "constraint_options.h"
#include "files.h"
#include "interrupt.h"
#include "moxie/chat.h"
#include "moxie/generate.h"
#include "options.h"
#include "terminal.h"

namespace moxie::cli {
namespace {

struct RunArguments {
  ModelArguments model;
  SamplingArguments sampling;
  ConstraintArguments constraint;
  std::string prompt;
  CLI::Option* prompt_option = nullptr;
  std::string system;
  std::string trace;  ///< file for the routing, or empty
  bool raw = false;
  bool json = false;
  bool stats = false;
};

Result<std::string> ReadPrompt(const RunArguments& arguments) {
  if (arguments.prompt_option->count() > 0) return arguments.prompt;
  if (IsTerminal(stdin)) std::fputs("Prompt (end with Ctrl-D):\n", stderr);
  MOXIE_TRY_ASSIGN(std::string text, ReadFile("-"));
  // What `echo` puts at the end is not meant.
  if (text.ends_with('\n')) text.pop_back();
  return text;
}

Result<std::vector<TokenId>> EncodePrompt(const Model& model, const RunArguments& arguments,
                                          const std::string& prompt) {
  if (!arguments.raw && model.has_chat_template()) {
    std::vector<Message> messages;
    if (!arguments.system.empty()) messages.push_back({"system", arguments.system, ""});
    messages.push_back({"user", prompt, ""});
    return EncodeChat(model, messages);
  }
  if (!arguments.raw && IsTerminal(stderr))
    std::fputs("(no chat template in this model: the prompt is continued as it stands)\n", stderr);
  return model.tokenizer().Encode(prompt, {});
}

/// Prints the answer as it comes. The handler's result says whether to go on.
class Streamer {
 public:
  explicit Streamer(bool silent) : silent_(silent), bar_("reading the prompt") {}

  bool Handle(const Event& event, int64_t prompt_tokens) {
    if (event.token < 0 && event.text.empty()) ShowPrompt(event.prompt_done, prompt_tokens);
    if (event.token >= 0) bar_.Clear();
    if (!silent_ && !event.text.empty()) {
      Print(event.text);
      std::fflush(stdout);
      within_line_ = event.text.back() != '\n';
    }
    return !InterruptGuard::Interrupted();
  }

  /// Ends the last line.
  void Finish() {
    bar_.Clear();
    if (within_line_) Print("\n");
  }

 private:
  using Clock = std::chrono::steady_clock;

  /// Rate and time left of a prompt that takes more than one pass.
  void ShowPrompt(int64_t done, int64_t tokens) {
    const double seconds = std::chrono::duration<double>(Clock::now() - start_).count();
    const double rate = static_cast<double>(done) / std::max(seconds, 1e-9);
    bar_.Show(static_cast<double>(done) / static_cast<double>(tokens),
              "of " + std::to_string(tokens) + " tokens, " + FormatFixed(rate, 0) + " tokens/s, " +
                  FormatFixed(static_cast<double>(tokens - done) / rate, 0) + " s left");
  }

  bool silent_;
  const Clock::time_point start_ = Clock::now();
  ProgressBar bar_;
  bool within_line_ = false;
};

int Run(const RunArguments& arguments) {
  const InterruptGuard guard;
  const std::string& path = arguments.model.model;
  Result<std::unique_ptr<Model>> model = Model::Open(path, arguments.model.ToOptions());
  if (!model) return Fail("run", model.error());
  const Result<std::string> prompt = ReadPrompt(arguments);
  if (InterruptGuard::Interrupted()) return kInterrupted;
  if (!prompt) return Fail("run", prompt.error());
  Request request = arguments.sampling.ToRequest();
  Result<std::vector<TokenId>> ids = EncodePrompt(**model, arguments, *prompt);
  if (!ids) return Fail("run", ids.error());
  request.prompt = std::move(*ids);
  Result<ConstraintPtr> constraint = MakeConstraint(arguments.constraint, (*model)->tokenizer());
  if (!constraint) return Fail("run", constraint.error());
  request.constraint = std::move(*constraint);
  request.observe_routing = (*model)->is_mixture();
  request.record_routing = !arguments.trace.empty();
  if (request.record_routing && !(*model)->is_mixture())
    return Fail("run", path,
                {ErrorCode::kInvalidInput, "has no experts, so there is no routing to --trace"});

  Engine engine(**model);
  Streamer streamer(arguments.json);
  const auto prompt_tokens = static_cast<int64_t>(request.prompt.size());
  const Result<Completion> answer = engine.Run(std::move(request), [&](const Event& event) {
    return streamer.Handle(event, prompt_tokens);
  });
  streamer.Finish();
  if (!answer) return Fail("run", path, answer.error());
  if (!arguments.trace.empty()) {
    const auto written = WriteFile(arguments.trace, FormatRoutingTrace(answer->routing_trace));
    if (!written) return Fail("run", written.error());
  }
  if (arguments.json) Print(AnswerJson(**model, *answer) + "\n");
  if (std::fflush(stdout) != 0)
    return Fail("run", {ErrorCode::kIo, "standard output: cannot be written"});
  if (!arguments.json && (arguments.stats || IsTerminal(stderr)))
    std::fputs(Styled(stderr, Style::kDim, "\n" + AnswerTable(**model, *answer)).c_str(), stderr);
  return answer->finish_reason == FinishReason::kCancelled ? kInterrupted : kDone;
}

}  // namespace

void AddRun(Program& program) {
  const auto arguments = std::make_shared<RunArguments>();
  CLI::App* const command = AddCommand(program, "run", "Answer one prompt, streaming",
                                       [arguments] { return Run(*arguments); });
  AddModelOptions(*command, arguments->model);
  arguments->prompt_option = command->add_option(
      "PROMPT", arguments->prompt, "What to answer; read from standard input if absent");
  command
      ->add_option("--system", arguments->system,
                   "System message placed before the prompt (chat template only)")
      ->type_name("TEXT");
  command->add_flag("--raw", arguments->raw,
                    "Continue the prompt as it stands, without the model's chat template");
  command->add_flag("--json", arguments->json,
                    "Print one JSON object: text, ids, finish_reason, timings, memory, routing");
  command->add_flag("--stats", arguments->stats,
                    "Print the table of speed, memory and routing on standard error even where "
                    "that is no terminal");
  command
      ->add_option("--trace", arguments->trace,
                   "Write which experts each token went to, for `moxie bench --replay`")
      ->type_name("OUT.json");
  AddSamplingOptions(*command, arguments->sampling);
  AddConstraintOptions(*command, arguments->constraint);
  command->footer(
      "Examples:\n"
      "  moxie run model.gguf \"What is the capital of France?\"\n"
      "  moxie run model.gguf --temperature 0.7 --top-p 0.9 --seed 3 < question.txt\n"
      "  moxie run model.gguf --choice yes --choice no \"Is water wet?\"\n"
      "  moxie run ./Mixtral-8x7B --raw --max-tokens 32 \"Once upon a time\"");
}

}  // namespace moxie::cli
