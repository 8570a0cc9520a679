#include <charconv>
#include <cmath>
#include <string>

#include "moxie/sampling.h"

namespace moxie {
namespace {

std::string Text(float value) {
  if (std::isnan(value)) return "nan";
  char buffer[64];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value).ptr;
  return {buffer, end};
}

Error OutOfRange(const std::string& option, const std::string& value, const std::string& range) {
  return {ErrorCode::kInvalidInput, option + ": is " + value + ", but must be " + range};
}

Result<void> CheckFraction(const char* option, float value, bool zero_allowed) {
  if (value <= 1.0F && (value > 0.0F || (zero_allowed && value == 0.0F))) return {};
  return OutOfRange(option, Text(value), zero_allowed ? "in [0, 1]" : "in (0, 1]");
}

Result<void> CheckFinite(const char* option, float value) {
  if (std::isfinite(value)) return {};
  return OutOfRange(option, Text(value), "finite");
}

}  // namespace

Result<void> ValidateSamplingOptions(const SamplingOptions& options, int32_t vocab_size) {
  if (!(options.temperature >= 0.0F) || !std::isfinite(options.temperature))
    return OutOfRange("--temperature", Text(options.temperature), "0 or more, and finite");
  if (options.top_k < 0)
    return OutOfRange("--top-k", std::to_string(options.top_k), "0 (all tokens) or more");
  MOXIE_TRY(CheckFraction("--typical-p", options.typical_p, false));
  MOXIE_TRY(CheckFraction("--top-p", options.top_p, true));
  MOXIE_TRY(CheckFraction("--min-p", options.min_p, true));
  if (!(options.repeat_penalty > 0.0F) || !std::isfinite(options.repeat_penalty))
    return OutOfRange("--repeat-penalty", Text(options.repeat_penalty), "more than 0, and finite");
  if (options.repeat_last_n < -1) {
    return OutOfRange("--repeat-last-n", std::to_string(options.repeat_last_n),
                      "-1 (the whole text), 0 or more");
  }
  MOXIE_TRY(CheckFinite("--presence-penalty", options.presence_penalty));
  MOXIE_TRY(CheckFinite("--frequency-penalty", options.frequency_penalty));
  for (const auto& [id, bias] : options.logit_bias) {
    if (id < 0 || id >= vocab_size) {
      return OutOfRange("--logit-bias", "for token " + std::to_string(id),
                        "for a token in 0.." + std::to_string(vocab_size - 1));
    }
    if (std::isnan(bias) || bias == HUGE_VALF)
      return OutOfRange("--logit-bias", Text(bias), "a number or -inf");
  }
  return {};
}

}  // namespace moxie
