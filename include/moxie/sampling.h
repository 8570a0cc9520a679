#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "moxie/result.h"

namespace moxie {

/// How the next token is chosen from the model's logits. The defaults change nothing: they sample
/// from the model's own distribution.
///
/// The steps always run in this order, each on what the one before left over:
///
///   0. a request's constraint forbids every token that cannot come next (moxie/constraint.h)
///   1. logit_bias          added to the logits
///   2. repeat_penalty, then frequency_penalty and presence_penalty
///   3. temperature 0:      the largest logit, the lower id of equal ones; nothing below runs
///   4. top_k, typical_p, top_p, min_p   each with the softmax of the tokens still left
///   5. temperature         divides the logits that are left
///   6. the draw
///
/// This is llama.cpp's order. The cuts come before the temperature so that they judge the model's
/// own probabilities: a higher temperature spreads the choice over the same tokens and lets none of
/// the tail back in. (transformers and vLLM put the temperature before the cuts.) top_k comes first
/// because it makes everything after it cheap. No cut ever removes the last token.
///
/// The draw. A sampler owns a xoshiro256** generator (Blackman and Vigna, arXiv:1805.01407); its
/// four words are the first four outputs of SplitMix64 started at `seed`. Every draw takes one
/// output x and makes u = (x >> 11) * 2^-53, in [0, 1). Of the tokens left, in order of their ids,
/// it returns the first at which the running sum of weights exceeds u times the sum of all, where
/// weight = exp((logit - largest) / temperature) in double precision, computed by additions and
/// multiplications alone. So equal logits and an equal seed give equal tokens on every machine.
/// Temperature 0 draws nothing.
struct SamplingOptions {
  /// 0 (greedy) or more.
  float temperature = 1.0F;
  /// Keeps the k largest logits, the lower id of equal ones; 0 keeps all.
  int32_t top_k = 0;
  /// Keeps the tokens whose surprise is nearest to the entropy, until their probabilities sum to
  /// this (Meister et al., arXiv:2202.00666); in (0, 1], 1 keeps all.
  float typical_p = 1.0F;
  /// Keeps the most probable tokens until their probabilities sum to this (nucleus sampling,
  /// Holtzman et al., arXiv:1904.09751); in [0, 1], 1 keeps all, 0 only the first.
  float top_p = 1.0F;
  /// Keeps tokens at least this fraction as probable as the most probable one (arXiv:2407.01082);
  /// in [0, 1], 0 keeps all.
  float min_p = 0.0F;
  /// Divides positive logits of recent tokens by this and multiplies negative ones (Keskar et al.,
  /// arXiv:1909.05858); more than 0, 1 changes nothing.
  float repeat_penalty = 1.0F;
  /// How many tokens, of prompt and answer together, count as recent; 0: none, -1: all.
  int32_t repeat_last_n = 64;
  /// Taken off the logit of every token that is already in the answer; in [-2, 2] by OpenAI's
  /// definition, any finite value here.
  float presence_penalty = 0.0F;
  /// Taken off the logit of a token once for every time it is in the answer; any finite value.
  float frequency_penalty = 0.0F;
  /// Token id and what is added to its logit; -infinity forbids the token. Values of a repeated id
  /// add up.
  std::vector<std::pair<int32_t, float>> logit_bias;
  /// Two samplers with one seed and equal logits choose the same tokens.
  uint64_t seed = 0;
};

/// Checks every range above, and the ids of `logit_bias` against a vocabulary of `vocab_size`.
///
/// Errors: kInvalidInput, naming the option as the command line does, its value and its range.
Result<void> ValidateSamplingOptions(const SamplingOptions& options, int32_t vocab_size);

/// A token and the natural logarithm of its probability: log-softmax of the model's unmodified
/// logits, whatever the sampling options are.
struct TokenLogprob {
  int32_t id = 0;
  float logprob = 0.0F;
};

}  // namespace moxie
