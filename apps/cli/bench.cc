#include <algorithm>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <vector>

#include "bench_profile.h"
#include "command.h"
#include "files.h"
#include "interrupt.h"
#include "moxie/generate.h"
#include "moxie/machine.h"
#include "options.h"
#include "terminal.h"

namespace moxie::cli {
namespace {

struct BenchArguments {
  ModelArguments model;
  int64_t prompt_tokens = 512;
  int64_t generate_tokens = 64;
  int64_t decode_context = -1;  ///< -1: as the prompt
  int64_t repetitions = 3;
  std::string profile;  ///< file for the trace, or empty
  bool json = false;
};

/// What the machine allows: nothing decodes faster than it reads the weights, nothing prefills
/// faster than these kernels multiply out of the cache.
struct Bound {
  double memory_bytes_per_s = 0;
  double operations_per_s = 0;
  double prefill_tokens_per_s = 0;
  double decode_tokens_per_s = 0;
};

struct Figures {
  double prefill_tokens_per_s = 0;
  double decode_tokens_per_s = 0;
  int64_t peak_memory_bytes = 0;  ///< before the bound was measured, which takes a buffer
  Bound bound;
  PartShares prefill_parts;
  PartShares decode_parts;
};

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

Result<Bound> MeasureBound(const Model& model) {
  Bound bound;
  MOXIE_TRY_ASSIGN(bound.memory_bytes_per_s, MeasureMemoryBandwidth(model.threads()));
  MOXIE_TRY_ASSIGN(bound.operations_per_s,
                   MeasureComputeRate(model.threads(), std::string(model.kernels()),
                                      std::string(model.main_type())));
  bound.prefill_tokens_per_s =
      bound.operations_per_s / static_cast<double>(model.operations_per_token());
  bound.decode_tokens_per_s =
      bound.memory_bytes_per_s / static_cast<double>(model.bytes_per_token());
  return bound;
}

/// Tokens that differ, so that a mixture's experts all get work; the same in every run.
std::vector<TokenId> Prompt(int64_t tokens, int64_t vocab, int64_t seed) {
  std::vector<TokenId> ids;
  uint64_t state = static_cast<uint64_t>(seed) * 0x9e3779b97f4a7c15u + 1;
  for (int64_t i = 0; i < tokens; ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    ids.push_back(static_cast<TokenId>((state >> 33) % static_cast<uint64_t>(vocab)));
  }
  return ids;
}

/// One prompt and its answer. `on_token` is called for each token.
Result<Completion> RunOnce(Engine& engine, std::vector<TokenId> prompt, int64_t max_tokens,
                           const std::function<void()>& on_token) {
  Request request;
  request.prompt = std::move(prompt);
  request.sampling.temperature = 0;
  request.max_tokens = max_tokens;
  request.end_at_stop_tokens = false;
  MOXIE_TRY_ASSIGN(Completion answer, engine.Run(std::move(request), [&](const Event& event) {
    if (event.token >= 0) on_token();
    return !InterruptGuard::Interrupted();
  }));
  if (answer.finish_reason == FinishReason::kCancelled)
    return Error{ErrorCode::kCancelled, "cancelled"};
  return answer;
}

/// A run more, not timed, that records where the time goes.
Result<void> MeasureParts(Model& model, Engine& engine, const BenchArguments& arguments,
                          Figures& figures) {
  Profile profile;
  engine.Record(&profile);
  int64_t first_token = 0;
  const auto answer = RunOnce(
      engine, Prompt(arguments.prompt_tokens, model.vocab_size(), arguments.repetitions + 1),
      arguments.generate_tokens + 1, [&] {
        if (first_token == 0) first_token = profile.Now();
      });
  engine.Record(nullptr);
  if (!answer) return answer.error();
  figures.prefill_parts = SharesOf(profile, 0, first_token);
  figures.decode_parts = SharesOf(profile, first_token, profile.Now());
  return arguments.profile.empty() ? Result<void>()
                                   : WriteFile(arguments.profile, ToChromeTrace(profile));
}

Result<Figures> Measure(Model& model, const BenchArguments& arguments) {
  ProgressBar bar("measuring");
  Engine engine(model);
  const auto nothing = [] {};
  const bool apart = arguments.decode_context != arguments.prompt_tokens;
  std::vector<double> prefill;
  std::vector<double> decode;
  // One more than asked for: the first pages the weights in and is not counted.
  for (int64_t run = 0; run <= arguments.repetitions; ++run) {
    MOXIE_TRY_ASSIGN(const Completion answer,
                     RunOnce(engine, Prompt(arguments.prompt_tokens, model.vocab_size(), 2 * run),
                             apart ? 1 : arguments.generate_tokens + 1, nothing));
    if (run > 0) prefill.push_back(answer.prefill_tokens_per_s());
    if (run > 0 && !apart) decode.push_back(answer.decode_tokens_per_s());
    if (apart) {
      MOXIE_TRY_ASSIGN(
          const Completion other,
          RunOnce(engine, Prompt(arguments.decode_context, model.vocab_size(), 2 * run + 1),
                  arguments.generate_tokens + 1, nothing));
      if (run > 0) decode.push_back(other.decode_tokens_per_s());
    }
    bar.Show(static_cast<double>(run + 1) / static_cast<double>(arguments.repetitions + 2));
  }
  Figures figures;
  figures.prefill_tokens_per_s = Median(prefill);
  figures.decode_tokens_per_s = Median(decode);
  figures.peak_memory_bytes = PeakMemoryBytes();
  MOXIE_TRY(MeasureParts(model, engine, arguments, figures));
  MOXIE_TRY_ASSIGN(figures.bound, MeasureBound(model));
  return figures;
}

nlohmann::ordered_json ToJson(const PartShares& shares) {
  nlohmann::ordered_json out = nlohmann::ordered_json::object();
  for (const auto& [name, share] : shares) out[name] = share;
  return out;
}

std::string ToJson(const Model& model, const Figures& figures) {
  const nlohmann::ordered_json out = {
      {"prefill_tokens_per_s", figures.prefill_tokens_per_s},
      {"decode_tokens_per_s", figures.decode_tokens_per_s},
      {"peak_memory_bytes", figures.peak_memory_bytes},
      {"load_s", model.load_seconds()},
      {"kernels", model.kernels()},
      {"threads", model.threads()},
      {"bound",
       {{"prefill_tokens_per_s", figures.bound.prefill_tokens_per_s},
        {"decode_tokens_per_s", figures.bound.decode_tokens_per_s},
        {"operations_per_s", figures.bound.operations_per_s},
        {"operations_per_token", model.operations_per_token()},
        {"memory_bytes_per_s", figures.bound.memory_bytes_per_s},
        {"bytes_per_token", model.bytes_per_token()}}},
      {"parts",
       {{"prefill", ToJson(figures.prefill_parts)}, {"decode", ToJson(figures.decode_parts)}}}};
  return out.dump() + "\n";
}

void PrintText(const Model& model, const Figures& figures) {
  const auto row = [](const std::string& name, const std::string& text) {
    Print(Styled(stdout, Style::kBold, name) + std::string(12 - name.size(), ' ') + text + "\n");
  };
  const auto beside = [](double value, double bound, const std::string& why) {
    return FormatFixed(value, 1) + " tokens/s, " + FormatFixed(100 * value / bound, 0) + " % of " +
           FormatFixed(bound, 0) + " (" + why + ")";
  };
  const Bound& bound = figures.bound;
  row("prefill", beside(figures.prefill_tokens_per_s, bound.prefill_tokens_per_s,
                        FormatFixed(bound.operations_per_s / 1e9, 0) + " GOP/s with " +
                            std::string(model.main_type()) + " in cache"));
  row("decode", beside(figures.decode_tokens_per_s, bound.decode_tokens_per_s,
                       FormatFixed(bound.memory_bytes_per_s / 1e9, 1) + " GB/s over " +
                           FormatBytes(model.bytes_per_token()) + " a token"));
  row("prefilling", FormatShares(figures.prefill_parts));
  row("decoding", FormatShares(figures.decode_parts));
  row("load", FormatFixed(model.load_seconds(), 3) + " s");
  row("memory", FormatBytes(figures.peak_memory_bytes) + " at most");
  row("with", std::to_string(model.threads()) +
                  (model.threads() == 1 ? " thread, " : " threads, ") +
                  std::string(model.kernels()) + " kernels");
}

int Bench(BenchArguments arguments) {
  const InterruptGuard guard;
  if (arguments.decode_context < 0) arguments.decode_context = arguments.prompt_tokens;
  ModelOptions options = arguments.model.ToOptions();
  if (options.context == 0)
    options.context =
        std::max(arguments.prompt_tokens, arguments.decode_context) + arguments.generate_tokens + 1;
  const Result<std::unique_ptr<Model>> model = Model::Open(arguments.model.model, options);
  if (!model) return Fail("bench", model.error());
  const Result<Figures> figures = Measure(**model, arguments);
  if (!figures) return Fail("bench", arguments.model.model, figures.error());
  if (arguments.json) {
    Print(ToJson(**model, *figures));
  } else {
    PrintText(**model, *figures);
  }
  return kDone;
}

}  // namespace

void AddBench(Program& program) {
  const auto arguments = std::make_shared<BenchArguments>();
  CLI::App* const command =
      AddCommand(program, "bench", "Measure speed beside what the machine allows",
                 [arguments] { return Bench(*arguments); });
  AddModelOptions(*command, arguments->model);
  const auto add = [&](const char* name, int64_t& value, const char* text, const char* shown) {
    command->add_option(name, value, text)
        ->type_name("N")
        ->default_str(shown)
        ->check(CLI::Range(int64_t{1}, int64_t{1} << 24).description(""));
  };
  add("--prompt-tokens", arguments->prompt_tokens, "Tokens of the prompt", "512");
  add("--generate-tokens", arguments->generate_tokens, "Tokens of the answer", "64");
  add("--decode-context", arguments->decode_context,
      "Tokens before the answer whose decoding is timed", "as the prompt");
  add("--repetitions", arguments->repetitions, "Runs, of which the median counts", "3");
  command->add_option("--profile", arguments->profile, "Write one run's spans as a Chrome trace")
      ->type_name("OUT.json");
  command->add_flag("--json", arguments->json, "Print one JSON object");
}

}  // namespace moxie::cli
