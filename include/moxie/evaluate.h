#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string_view>

#include "moxie/model.h"
#include "moxie/result.h"
#include "moxie/routing.h"

namespace moxie {

/// Called with the share of the work done, in [0, 1]. False cancels.
using ProgressHandler = std::function<bool(double)>;

/// Receives logits as they are computed: `rows` holds whole rows of the vocabulary's size, the
/// first of them for token number `first`.
using LogitsHandler = std::function<Result<void>(int64_t first, std::span<const float> rows)>;

/// Runs `ids` as one sequence and hands over the logits of every position, in order.
/// `routing`, where not null, receives every token's routing (left empty for a dense model).
///
/// Errors: kInvalidInput for an empty sequence, one longer than the model's context, or ids outside
/// the vocabulary; whatever `on_rows` returns; kCancelled.
Result<void> ComputeLogits(Model& model, std::span<const TokenId> ids, const LogitsHandler& on_rows,
                           RoutingTrace* routing = nullptr, const ProgressHandler& progress = {});

struct PerplexityOptions {
  int64_t window = 512;  ///< tokens seen at once, even, at most the model's context
  int64_t chunks = -1;   ///< windows measured at most; -1: all
};

/// How far a model's next-token probabilities are from a base's, over all scored tokens.
struct Divergence {
  double mean = 0;             ///< Kullback-Leibler divergence from the base, in nats
  double standard_error = 0;   ///< of it, tokens taken as independent
  double same_choice = 0;      ///< share of tokens whose most probable successor is the base's
  double base_perplexity = 0;  ///< of the base on the same tokens
};

struct Perplexity {
  double perplexity = 0;
  double standard_error = 0;
  int64_t tokens = 0;  ///< scored
  int64_t windows = 0;
  std::optional<Divergence> divergence = {};  ///< where a base was given
};

/// Perplexity of a text, by llama.cpp's convention so that figures compare: the text is tokenised
/// at once (special tokens' text as plain text), cut into windows side by side (a rest is left
/// out), the first token of each is replaced by BOS where the model adds one, and of each window
/// the tokens from window/2 + 1 to its end are scored. The standard error treats their losses as
/// independent.
///
/// With a `base` of the same vocabulary, whose context holds a window, both models run side by side
/// and the divergence is measured, too.
///
/// Errors: kInvalidInput for a text shorter than two windows or a base that does not fit;
/// kCancelled.
Result<Perplexity> MeasurePerplexity(Model& model, std::string_view text,
                                     const PerplexityOptions& options,
                                     const ProgressHandler& progress = {}, Model* base = nullptr);

}  // namespace moxie
