#include "options.h"

#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <memory>
#include <utility>

#include "interrupt.h"
#include "terminal.h"

namespace moxie::cli {
namespace {

constexpr char kModelGroup[] = "Model options";
constexpr char kSamplingGroup[] = "Sampling options";

/// A whole text as a number, or nothing.
std::optional<double> ParseNumber(const std::string& text) {
  if (text.empty() || std::isspace(static_cast<unsigned char>(text[0]))) return std::nullopt;
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  if (end != text.c_str() + text.size() || std::isnan(value)) return std::nullopt;
  return value;
}

/// "FOLDER[=SCALE]": the scale is what follows the last '=', where that is a number.
AdapterOptions ParseAdapter(const std::string& text) {
  const size_t equals = text.rfind('=');
  if (equals != std::string::npos) {
    const std::optional<double> scale = ParseNumber(text.substr(equals + 1));
    if (scale && std::isfinite(*scale)) return {text.substr(0, equals), *scale};
  }
  return {text, 1.0};
}

/// "ID=V", V a number or -inf.
std::optional<std::pair<int32_t, float>> ParseBias(const std::string& text) {
  const size_t equals = text.find('=');
  if (equals == std::string::npos) return std::nullopt;
  const std::optional<double> id = ParseNumber(text.substr(0, equals));
  const std::optional<double> value = ParseNumber(text.substr(equals + 1));
  if (!id || !value || *id != std::floor(*id) || *id < 0 ||
      *id > std::numeric_limits<int32_t>::max())
    return std::nullopt;
  if (*value > std::numeric_limits<float>::max()) return std::nullopt;
  return std::pair(static_cast<int32_t>(*id), static_cast<float>(*value));
}

CLI::Validator NumberIn(const std::string& description, double least, double most,
                        bool least_excluded = false) {
  return CLI::Validator(
      [=](std::string& text) -> std::string {
        const std::optional<double> value = ParseNumber(text);
        if (value && *value <= most && (least_excluded ? *value > least : *value >= least))
          return "";
        return "is " + text + ", but must be " + description;
      },
      "");
}

/// Bytes, rate and time left; the bar goes when all is read.
void ShowLoading(ProgressBar& bar, const LoadProgress& progress) {
  if (progress.done_bytes >= progress.total_bytes) return bar.Clear();
  const double rate = static_cast<double>(progress.done_bytes) / std::max(progress.seconds, 1e-9);
  const auto left = static_cast<double>(progress.total_bytes - progress.done_bytes);
  bar.Show(static_cast<double>(progress.done_bytes) / static_cast<double>(progress.total_bytes),
           "of " + FormatBytes(progress.total_bytes) + ", " + FormatFixed(rate / 1e9, 1) +
               " GB/s, " + FormatFixed(left / rate, 0) + " s left");
}

const double kLargest = std::numeric_limits<float>::max();

}  // namespace

std::optional<int64_t> ParseSize(const std::string& text) {
  size_t digits = 0;
  while (digits < text.size() &&
         (std::isdigit(static_cast<unsigned char>(text[digits])) || text[digits] == '.'))
    ++digits;
  const std::optional<double> number = ParseNumber(text.substr(0, digits));
  if (!number) return std::nullopt;
  std::string unit = text.substr(digits);
  if (unit.size() == 3 && unit.ends_with("iB")) unit.resize(1);
  if (unit.size() == 2 && unit[1] == 'B') unit.resize(1);
  double factor = 1;
  if (unit == "K" || unit == "k") {
    factor = 0x1p10;
  } else if (unit == "M" || unit == "m") {
    factor = 0x1p20;
  } else if (unit == "G" || unit == "g") {
    factor = 0x1p30;
  } else if (unit == "T" || unit == "t") {
    factor = 0x1p40;
  } else if (!unit.empty() && unit != "B") {
    return std::nullopt;
  }
  const double bytes = *number * factor;
  if (bytes < 1 || bytes > 0x1p62) return std::nullopt;
  return static_cast<int64_t>(bytes);
}

ModelOptions ModelArguments::ToOptions() const {
  ModelOptions options;
  options.threads = threads;
  options.context = context;
  options.batch_tokens = batch;
  options.memory_bytes = ParseSize(memory).value_or(0);
  options.kv_type = kv_type;
  options.kernels = kernels;
  options.batch_invariant = batch_invariant;
  for (const std::string& adapter : adapters) options.adapters.push_back(ParseAdapter(adapter));
  options.on_load = [bar = std::make_shared<ProgressBar>("loading")](const LoadProgress& progress) {
    ShowLoading(*bar, progress);
    return !InterruptGuard::Interrupted();
  };
  return options;
}

void AddModelArgument(CLI::App& command, std::string& model) {
  command
      .add_option("MODEL", model,
                  "A .gguf file (the first of a split set), or a folder: Hugging Face "
                  "(config.json) or Mistral's consolidated (params.json)")
      ->required();
}

void AddModelOptions(CLI::App& command, ModelArguments& arguments) {
  AddModelArgument(command, arguments.model);
  AddRunOptions(command, arguments);
}

void AddRunOptions(CLI::App& command, ModelArguments& arguments) {
  command
      .add_option("--threads", arguments.threads, "CPU threads; as many as may be used if absent")
      ->type_name("N")
      ->check(NumberIn("1..1024", 1, 1024))
      ->group(kModelGroup);
  command
      .add_option("--context", arguments.context,
                  "Tokens that prompt and answer may have together; if absent the model's own, at "
                  "most 4096")
      ->type_name("N")
      ->check(NumberIn("1..16777216", 1, 1 << 24))
      ->group(kModelGroup);
  command
      .add_option("--batch", arguments.batch,
                  "Tokens of a prompt that are computed together; more read it faster and take "
                  "more memory")
      ->type_name("N")
      ->default_str("512")
      ->check(NumberIn("1..65536", 1, 1 << 16))
      ->group(kModelGroup);
  command
      .add_option(
          "--memory", arguments.memory,
          "Most memory to use, such as 12GiB, 800MiB or auto (what is free, less a reserve). "
          "A mixture that is larger runs all the same: its experts are read from disk as "
          "they are needed")
      ->type_name("SIZE")
      ->default_str("auto")
      ->check(CLI::Validator(
          [](std::string& text) -> std::string {
            if (text == "auto" || ParseSize(text)) return "";
            return "is " + text + ", but must be a size such as 12GiB, 800MiB or bytes, or auto";
          },
          ""))
      ->group(kModelGroup);
  command
      .add_option("--kv-type", arguments.kv_type,
                  "Type in which keys and values are kept; f16 takes half of f32's memory, q8_0 a "
                  "quarter, and both cost a little exactness")
      ->type_name("TYPE")
      ->default_str(arguments.kv_type)
      ->check(CLI::IsMember({"f16", "q8_0", "f32"}).description("f16, q8_0, f32"))
      ->group(kModelGroup);
  command
      .add_option("--kernels", arguments.kernels,
                  "Instruction set of the arithmetic; auto takes the fastest that works here")
      ->type_name("SET")
      ->default_str("auto")
      ->check(CLI::IsMember({"auto", "scalar", "avx2", "avx512", "avx512_bf16", "amx", "neon",
                             "neon_dot", "neon_i8mm"})
                  .description(
                      "auto, scalar, avx2, avx512, avx512_bf16, amx, neon, neon_dot, neon_i8mm"))
      ->group(kModelGroup);
  command
      .add_flag("--batch-invariant", arguments.batch_invariant,
                "Results that do not depend by a bit on what else runs or on how a prompt is cut; "
                "prompts are read more slowly then, with the amx kernels half as fast")
      ->group(kModelGroup);
  command
      .add_option("--lora", arguments.adapters,
                  "Adds a LoRA adapter (a PEFT folder), times SCALE; may be repeated")
      ->type_name("FOLDER[=SCALE]")
      ->expected(1)
      ->take_all()
      ->group(kModelGroup);
}

Request SamplingArguments::ToRequest() const {
  Request request;
  request.sampling = sampling;
  for (const std::string& bias : logit_bias) {
    if (const auto parsed = ParseBias(bias)) request.sampling.logit_bias.push_back(*parsed);
  }
  request.max_tokens = max_tokens;
  request.stop = stop;
  request.end_at_stop_tokens = !ignore_eos;
  return request;
}

void AddSamplingOptions(CLI::App& command, SamplingArguments& arguments) {
  SamplingOptions& sampling = arguments.sampling;
  sampling.temperature = 0;
  const auto add = [&](const char* name, auto& value, const char* type, const char* description,
                       const char* shown_default, const CLI::Validator& range) {
    command.add_option(name, value, description)
        ->type_name(type)
        ->default_str(shown_default)
        ->check(range)
        ->group(kSamplingGroup);
  };
  add("--temperature", sampling.temperature, "T",
      "Spread of the choice: 0 always takes the most probable token", "0",
      NumberIn("0 or more", 0, kLargest));
  add("--top-k", sampling.top_k, "K", "Chooses among the K most probable tokens; 0: all", "0",
      NumberIn("0..2147483647", 0, std::numeric_limits<int32_t>::max()));
  add("--top-p", sampling.top_p, "P",
      "Chooses among the most probable tokens that reach P together; 1: all", "1",
      NumberIn("0..1", 0, 1));
  add("--min-p", sampling.min_p, "P",
      "Leaves out tokens less than P times as probable as the best; 0: none", "0",
      NumberIn("0..1", 0, 1));
  add("--typical-p", sampling.typical_p, "P",
      "Chooses among the most typical tokens that reach P together; 1: all", "1",
      NumberIn("more than 0, at most 1", 0, 1, true));
  add("--repeat-penalty", sampling.repeat_penalty, "R",
      "Makes recent tokens less likely; 1: changes nothing", "1",
      NumberIn("more than 0", 0, kLargest, true));
  add("--presence-penalty", sampling.presence_penalty, "R",
      "Taken off the logit of every token already in the answer", "0",
      NumberIn("a number", -kLargest, kLargest));
  add("--frequency-penalty", sampling.frequency_penalty, "R",
      "Taken off a token's logit for each time it is in the answer", "0",
      NumberIn("a number", -kLargest, kLargest));
  command
      .add_option("--logit-bias", arguments.logit_bias,
                  "Adds V to the logit of token ID (-inf forbids it); may be repeated")
      ->type_name("ID=V")
      ->expected(1)
      ->take_all()
      ->check(CLI::Validator(
          [](std::string& text) -> std::string {
            return ParseBias(text) ? "" : "is " + text + ", but must be ID=V, as in 42=-1.5";
          },
          ""))
      ->group(kSamplingGroup);
  command.add_option("--stop", arguments.stop, "Ends the answer before this text; may be repeated")
      ->type_name("TEXT")
      ->expected(1)
      ->take_all()
      ->group(kSamplingGroup);
  command.add_option("--seed", sampling.seed, "Equal seeds give equal answers")
      ->type_name("N")
      ->default_str("0")
      ->group(kSamplingGroup);
  command
      .add_option("--max-tokens", arguments.max_tokens,
                  "Most tokens to answer with; as the context allows if absent")
      ->type_name("N")
      ->check(NumberIn("0 or more", 0, 1e15))
      ->group(kSamplingGroup);
  command
      .add_flag("--ignore-eos", arguments.ignore_eos,
                "Goes on after a token that ends the turn, up to --max-tokens")
      ->group(kSamplingGroup);
}

}  // namespace moxie::cli
