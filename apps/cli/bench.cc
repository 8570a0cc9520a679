#include <CLI/Error.hpp>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>
#include <vector>

#include "bench_profile.h"
#include "bench_replay.h"
#include "command.h"
#include "files.h"
#include "interrupt.h"
#include "moxie/generate.h"
#include "moxie/machine.h"
#include "moxie/plan.h"
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
  int64_t sequences = 1;  ///< prompts, and then answers, at once
  std::string profile;    ///< file for the trace, or empty
  std::string replay;     ///< file with a routing, or empty
  bool json = false;

  /// Whether decoding is timed after another context than the prompt.
  bool apart() const { return decode_context != prompt_tokens; }
};

/// What the machine allows: nothing decodes faster than it reads the weights and what it kept of
/// the tokens before, nothing prefills faster than these kernels multiply out of the cache, and
/// neither is faster than the disk gives the experts that are missing.
struct Bound {
  double memory_bytes_per_s = 0;
  double operations_per_s = 0;
  double disk_bytes_per_s = 0;  ///< 0: nothing comes from it
  double prefill_tokens_per_s = 0;
  double decode_tokens_per_s = 0;
  double prefill_bytes_from_disk = 0;  ///< a token's
  double decode_bytes_from_disk = 0;
  bool prefill_by_disk = false, decode_by_disk = false;
};

/// What is told of a model after it is closed.
struct About {
  About(const Model& model, int64_t mean_context)
      : threads(model.threads()),
        kernels(model.kernels()),
        main_type(model.main_type()),
        read_method(model.streams_experts() ? model.read_method() : ""),
        load_s(model.load_seconds()),
        operations_per_token(model.operations_per_token()),
        bytes_per_token(model.bytes_per_token()),
        cache_bytes_per_token(model.cache_bytes_per_token(mean_context)) {}

  int threads;
  std::string kernels, main_type;
  std::string read_method;  ///< empty where no experts are streamed
  double load_s;
  int64_t operations_per_token;
  int64_t bytes_per_token;        ///< of weights that decoding reads,
  int64_t cache_bytes_per_token;  ///< and of keys and values

  double decode_bytes() const {
    return static_cast<double>(bytes_per_token + cache_bytes_per_token);
  }
  bool streams_experts() const { return !read_method.empty(); }
};

/// What streaming experts did while prompts were read or answers written, over all timed runs.
struct Traffic {
  ExpertTraffic experts;
  double seconds = 0;

  void Add(const ExpertTraffic& traffic, double spent) {
    experts += traffic;
    seconds += spent;
  }
  double bytes_per_s() const {
    return seconds > 0 ? static_cast<double>(experts.bytes_read) / seconds : 0;
  }
};

struct Figures {
  double prefill_tokens_per_s = 0;
  double decode_tokens_per_s = 0;
  int64_t peak_memory_bytes = 0;  ///< before the bound was measured, which takes a buffer
  std::optional<Bound> bound;     ///< of one sequence
  PartShares prefill_parts;
  PartShares decode_parts;
  Traffic prefill_traffic, decode_traffic;  ///< where experts are streamed
};

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

/// Of what memory's bandwidth is measured with.
constexpr int64_t kLeastBuffer = int64_t{64} << 20, kMostBuffer = int64_t{256} << 20;

/// The bound of what was measured. Closes the model: measuring takes memory that its budget may
/// have no room for.
Result<Bound> MeasureBound(std::unique_ptr<Model> model, const About& about, const Figures& figures,
                           int64_t prompt_tokens) {
  Bound bound;
  if (about.streams_experts()) {
    MOXIE_TRY_ASSIGN(bound.disk_bytes_per_s, MeasureExpertReading(*model));
    bound.decode_bytes_from_disk =
        BoundDecoding(*model, {}, figures.decode_traffic.experts).bytes_from_disk;
    bound.prefill_bytes_from_disk =
        static_cast<double>(figures.prefill_traffic.experts.bytes_read) /
        static_cast<double>(prompt_tokens);
  }
  model.reset();
  // Under a budget no more than the model had.
  const int64_t room = about.streams_experts() ? figures.peak_memory_bytes / 2 : kMostBuffer;
  MOXIE_TRY_ASSIGN(
      bound.memory_bytes_per_s,
      MeasureMemoryBandwidth(about.threads, std::clamp(room, kLeastBuffer, kMostBuffer)));
  MOXIE_TRY_ASSIGN(bound.operations_per_s,
                   MeasureComputeRate(about.threads, about.kernels, about.main_type));
  const auto slower = [&](double seconds, double bytes_from_disk, bool& by_disk) {
    const double disk_s = bytes_from_disk > 0 ? bytes_from_disk / bound.disk_bytes_per_s : 0;
    by_disk = disk_s > seconds;
    return 1 / std::max(seconds, disk_s);
  };
  bound.prefill_tokens_per_s =
      slower(static_cast<double>(about.operations_per_token) / bound.operations_per_s,
             bound.prefill_bytes_from_disk, bound.prefill_by_disk);
  bound.decode_tokens_per_s = slower(about.decode_bytes() / bound.memory_bytes_per_s,
                                     bound.decode_bytes_from_disk, bound.decode_by_disk);
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

/// What some prompts and their answers took, all begun at once.
struct Pace {
  double prefill_s = 0;  ///< until the last of them had its first token
  int64_t prompt_tokens = 0;
  double decode_s = 0;  ///< from then on
  int64_t decoded = 0;

  double prefill_tokens_per_s() const { return Rate(prompt_tokens, prefill_s); }
  double decode_tokens_per_s() const { return Rate(decoded, decode_s); }

 private:
  static double Rate(int64_t tokens, double seconds) {
    return seconds > 0 ? static_cast<double>(tokens) / seconds : 0;
  }
};

/// Prompts and their answers together. `on_begun` is called when all have their first token.
/// `drawn`: tokens are drawn, since the most probable ones of a random model repeat, and with them
/// their experts.
class Together {
 public:
  Together(Engine& engine, bool drawn) : engine_(engine), drawn_(drawn) {}

  Result<Pace> Run(const std::vector<std::vector<TokenId>>& prompts, int64_t max_tokens,
                   const std::function<void()>& on_begun) {
    begun_ = ended_ = 0;
    error_.reset();
    Pace pace;
    const auto start = Clock::now();
    Clock::time_point first = start, last = start;
    for (size_t i = 0; i < prompts.size(); ++i) {
      Request request;
      request.prompt = prompts[i];
      request.sampling.temperature = drawn_ ? 1 : 0;
      request.sampling.seed = i + 1;
      request.max_tokens = max_tokens;
      request.end_at_stop_tokens = false;
      pace.prompt_tokens += std::ssize(prompts[i]);
      const auto handle = [&, answering = false](const Event& event) mutable {
        if (event.token >= 0) last = Clock::now();
        if (event.token >= 0 && begun_ == prompts.size()) ++pace.decoded;
        if (event.token >= 0 && !std::exchange(answering, true) && ++begun_ == prompts.size()) {
          first = last;
          on_begun();
        }
        return !InterruptGuard::Interrupted();
      };
      MOXIE_TRY(engine_.Submit(std::move(request), handle,
                               [&](RequestId, const Result<Completion>& result) { End(result); }));
    }
    while (ended_ < prompts.size()) engine_.Step();
    if (error_) return *error_;
    pace.prefill_s = std::chrono::duration<double>(first - start).count();
    pace.decode_s = std::chrono::duration<double>(last - first).count();
    return pace;
  }

 private:
  using Clock = std::chrono::steady_clock;

  void End(const Result<Completion>& result) {
    ++ended_;
    if (!result) error_ = result.error();
    if (result && result->finish_reason == FinishReason::kCancelled)
      error_ = Error{ErrorCode::kCancelled, "cancelled"};
  }

  Engine& engine_;
  const bool drawn_;
  size_t begun_ = 0, ended_ = 0;
  std::optional<Error> error_;
};

/// The prompts of one run: as many as there are sequences.
std::vector<std::vector<TokenId>> Prompts(const BenchArguments& arguments, int64_t tokens,
                                          int64_t vocab, int64_t run) {
  std::vector<std::vector<TokenId>> prompts;
  for (int64_t i = 0; i < arguments.sequences; ++i)
    prompts.push_back(Prompt(tokens, vocab, run * arguments.sequences + i));
  return prompts;
}

/// A run more, not timed, that records where the time goes; two where the answer whose decoding is
/// timed has another context than the prompt.
Result<void> MeasureParts(Model& model, Engine& engine, const BenchArguments& arguments,
                          Figures& figures) {
  Profile profile;
  engine.Record(&profile);
  Together together(engine, model.streams_experts());
  const int64_t seed = 2 * (arguments.repetitions + 1);
  int64_t first_token = 0;
  const auto run = [&](int64_t context, int64_t max_tokens) {
    return together.Run(Prompts(arguments, context, model.vocab_size(), seed), max_tokens,
                        [&] { first_token = profile.Now(); });
  };
  auto answer = run(arguments.prompt_tokens, arguments.apart() ? 1 : arguments.generate_tokens + 1);
  const int64_t read = first_token;
  if (answer && arguments.apart())
    answer = run(arguments.decode_context, arguments.generate_tokens + 1);
  engine.Record(nullptr);
  if (!answer) return answer.error();
  figures.prefill_parts = SharesOf(profile, 0, read);
  figures.decode_parts = SharesOf(profile, first_token, profile.Now());
  return arguments.profile.empty() ? Result<void>()
                                   : WriteFile(arguments.profile, ToChromeTrace(profile));
}

/// Runs prompts and their answers and keeps count.
class Timer {
 public:
  Timer(Model& model, Engine& engine, Figures& figures)
      : model_(model), engine_(engine), figures_(figures) {}

  /// `counts`: whether to take the prompt's speed, the answer's.
  Result<void> Run(const std::vector<std::vector<TokenId>>& prompts, int64_t max_tokens,
                   bool counts_prompt, bool counts_answer) {
    const ExpertTraffic before = model_.expert_traffic();
    ExpertTraffic between;
    MOXIE_TRY_ASSIGN(const Pace pace,
                     Together(engine_, model_.streams_experts()).Run(prompts, max_tokens, [&] {
                       between = model_.expert_traffic();
                     }));
    if (counts_prompt) {
      prefill_.push_back(pace.prefill_tokens_per_s());
      figures_.prefill_traffic.Add(between - before, pace.prefill_s);
    }
    if (counts_answer) {
      decode_.push_back(pace.decode_tokens_per_s());
      figures_.decode_traffic.Add(model_.expert_traffic() - between, pace.decode_s);
    }
    return {};
  }

  void Finish() {
    figures_.prefill_tokens_per_s = Median(prefill_);
    figures_.decode_tokens_per_s = Median(decode_);
    figures_.peak_memory_bytes = PeakMemoryBytes();
  }

 private:
  Model& model_;
  Engine& engine_;
  Figures& figures_;
  std::vector<double> prefill_, decode_;
};

Result<Figures> Measure(Model& model, const BenchArguments& arguments) {
  ProgressBar bar("measuring");
  Engine engine(model);
  Figures figures;
  Timer timer(model, engine, figures);
  const bool apart = arguments.apart();
  // One more than asked for: the first pages the weights in and is not counted. Experts on disk
  // are read in every run, so there the first counts.
  const int64_t first = model.streams_experts() ? 1 : 0;
  for (int64_t run = first; run <= arguments.repetitions; ++run) {
    const bool counts = run > 0;
    MOXIE_TRY(timer.Run(Prompts(arguments, arguments.prompt_tokens, model.vocab_size(), 2 * run),
                        apart ? 1 : arguments.generate_tokens + 1, counts, counts && !apart));
    if (apart)
      MOXIE_TRY(
          timer.Run(Prompts(arguments, arguments.decode_context, model.vocab_size(), 2 * run + 1),
                    arguments.generate_tokens + 1, false, counts));
    bar.Show(static_cast<double>(run + 1) / static_cast<double>(arguments.repetitions + 2));
  }
  timer.Finish();
  if (!model.streams_experts() || !arguments.profile.empty())
    MOXIE_TRY(MeasureParts(model, engine, arguments, figures));
  return figures;
}

nlohmann::ordered_json ToJson(const PartShares& shares) {
  nlohmann::ordered_json out = nlohmann::ordered_json::object();
  for (const auto& [name, share] : shares) out[name] = share;
  return out;
}

nlohmann::ordered_json ToJson(const Traffic& traffic) {
  return {{"hits", traffic.experts.hits},
          {"misses", traffic.experts.misses},
          {"bytes_read", traffic.experts.bytes_read},
          {"wait_s", traffic.experts.wait_s},
          {"bytes_per_s", traffic.bytes_per_s()}};
}

std::string ToJson(const About& about, const BenchArguments& arguments, const Figures& figures) {
  nlohmann::ordered_json out = {
      {"sequences", arguments.sequences},
      {"prefill_tokens_per_s", figures.prefill_tokens_per_s},
      {"decode_tokens_per_s", figures.decode_tokens_per_s},
      {"peak_memory_bytes", figures.peak_memory_bytes},
      {"load_s", about.load_s},
      {"kernels", about.kernels},
      {"threads", about.threads},
      {"parts",
       {{"prefill", ToJson(figures.prefill_parts)}, {"decode", ToJson(figures.decode_parts)}}}};
  if (figures.bound)
    out["bound"] = {{"prefill_tokens_per_s", figures.bound->prefill_tokens_per_s},
                    {"decode_tokens_per_s", figures.bound->decode_tokens_per_s},
                    {"operations_per_s", figures.bound->operations_per_s},
                    {"operations_per_token", about.operations_per_token},
                    {"memory_bytes_per_s", figures.bound->memory_bytes_per_s},
                    {"bytes_per_token", about.bytes_per_token},
                    {"cache_bytes_per_token", about.cache_bytes_per_token},
                    {"disk_bytes_per_s", figures.bound->disk_bytes_per_s},
                    {"prefill_bytes_from_disk", figures.bound->prefill_bytes_from_disk},
                    {"decode_bytes_from_disk", figures.bound->decode_bytes_from_disk}};
  if (about.streams_experts())
    out["experts"] = {{"prefill", ToJson(figures.prefill_traffic)},
                      {"decode", ToJson(figures.decode_traffic)},
                      {"method", about.read_method}};
  return out.dump() + "\n";
}

/// "12.1 % found, 36.20 GiB read at 1.63 GB/s"
std::string FormatTraffic(const Traffic& traffic) {
  const ExpertTraffic& experts = traffic.experts;
  const auto asked = static_cast<double>(std::max<int64_t>(experts.hits + experts.misses, 1));
  return FormatFixed(100 * static_cast<double>(experts.hits) / asked, 1) + " % found, " +
         FormatBytes(experts.bytes_read) + " read at " +
         FormatFixed(traffic.bytes_per_s() / 1e9, 2) + " GB/s";
}

/// "0.31 tokens/s, 97 % of 0.32 (1.1 GB/s from disk over 3.4 GB a token)"
std::string FormatBeside(double speed, double bound, const std::string& why) {
  const int decimals = bound < 10 ? 2 : bound < 100 ? 1 : 0;
  return FormatFixed(speed, std::max(decimals, 1)) + " tokens/s, " +
         FormatFixed(100 * speed / bound, 0) + " % of " + FormatFixed(bound, decimals) + " (" +
         why + ")";
}

void PrintSpeeds(const About& about, const Figures& figures,
                 const std::function<void(const std::string&, const std::string&)>& row) {
  if (!figures.bound) {
    row("prefill", FormatFixed(figures.prefill_tokens_per_s, 1) + " tokens/s");
    row("decode", FormatFixed(figures.decode_tokens_per_s, 1) + " tokens/s");
    return;
  }
  const Bound& bound = *figures.bound;
  const auto from = [](double rate, const std::string& what, double bytes) {
    return FormatFixed(rate / 1e9, 1) + " GB/s" + what + " over " +
           FormatBytes(std::llround(bytes)) + " a token";
  };
  row("prefill",
      FormatBeside(figures.prefill_tokens_per_s, bound.prefill_tokens_per_s,
                   bound.prefill_by_disk
                       ? from(bound.disk_bytes_per_s, " from disk", bound.prefill_bytes_from_disk)
                       : FormatFixed(bound.operations_per_s / 1e9, 0) + " GOP/s with " +
                             about.main_type + " in cache"));
  row("decode",
      FormatBeside(figures.decode_tokens_per_s, bound.decode_tokens_per_s,
                   bound.decode_by_disk
                       ? from(bound.disk_bytes_per_s, " from disk", bound.decode_bytes_from_disk)
                       : from(bound.memory_bytes_per_s, "", about.decode_bytes())));
}

void PrintText(const About& about, const Figures& figures) {
  const auto row = [](const std::string& name, const std::string& text) {
    Print(Styled(stdout, Style::kBold, name) + std::string(12 - name.size(), ' ') + text + "\n");
  };
  PrintSpeeds(about, figures, row);
  if (about.streams_experts()) {
    row("experts", FormatTraffic(figures.prefill_traffic) + " while prefilling, " +
                       FormatTraffic(figures.decode_traffic) + " while decoding (" +
                       about.read_method + ")");
  }
  if (!figures.prefill_parts.empty()) {
    row("prefilling", FormatShares(figures.prefill_parts));
    row("decoding", FormatShares(figures.decode_parts));
  }
  row("load", FormatFixed(about.load_s, 3) + " s");
  row("memory", FormatBytes(figures.peak_memory_bytes) + " at most");
  row("with", std::to_string(about.threads) + (about.threads == 1 ? " thread, " : " threads, ") +
                  about.kernels + " kernels");
}

int Bench(BenchArguments arguments) {
  const InterruptGuard guard;
  if (arguments.decode_context < 0) arguments.decode_context = arguments.prompt_tokens;
  ModelOptions options = arguments.model.ToOptions();
  options.parallel = static_cast<int>(std::min<int64_t>(arguments.sequences, 1 << 20));
  if (options.context == 0)
    options.context =
        std::max(arguments.prompt_tokens, arguments.decode_context) + arguments.generate_tokens + 1;
  Result<std::unique_ptr<Model>> model = Model::Open(arguments.model.model, options);
  if (!model) return Fail("bench", model.error());
  const About about(**model, arguments.decode_context + arguments.generate_tokens / 2);
  Result<Figures> figures = Measure(**model, arguments);
  if (!figures) return Fail("bench", arguments.model.model, figures.error());
  if (arguments.sequences == 1) {
    const Result<Bound> bound =
        MeasureBound(*std::move(model), about, *figures, arguments.prompt_tokens);
    if (!bound) return Fail("bench", arguments.model.model, bound.error());
    figures->bound = *bound;
  }
  if (arguments.json) {
    Print(ToJson(about, arguments, *figures));
  } else {
    PrintText(about, *figures);
  }
  return kDone;
}

}  // namespace

void AddBench(Program& program) {
  const auto arguments = std::make_shared<BenchArguments>();
  CLI::App* const command =
      AddCommand(program, "bench", "Measure speed beside what the machine allows", [arguments] {
        if (arguments->replay.empty()) return Bench(*arguments);
        return Replay(arguments->replay, arguments->json);
      });
  AddModelOptions(*command, arguments->model);
  command
      ->add_option("--replay", arguments->replay,
                   "Instead: what caches of several sizes and policies would have found of a "
                   "routing that `moxie run --trace` wrote; needs no MODEL")
      ->type_name("FILE");
  command->get_option("MODEL")->required(false);
  command->parse_complete_callback([arguments] {
    if (arguments->model.model.empty() && arguments->replay.empty())
      throw CLI::RequiredError("MODEL");
  });
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
  add("--sequences", arguments->sequences,
      "Prompts and answers at once, whose tokens are counted together", "1");
  add("--repetitions", arguments->repetitions, "Runs, of which the median counts", "3");
  command->add_option("--profile", arguments->profile, "Write one run's spans as a Chrome trace")
      ->type_name("OUT.json");
  command->add_flag("--json", arguments->json, "Print one JSON object");
}

}  // namespace moxie::cli
