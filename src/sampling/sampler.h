#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "moxie/result.h"
#include "moxie/sampling.h"
#include "sampling/random.h"

namespace moxie {

/// Chooses the tokens of one answer; SamplingOptions says how. Holds the generator and what the
/// penalties need to know of the text so far. Not thread-safe; one for each answer.
class Sampler {
 public:
  /// `prompt` is what repeat_penalty counts among the recent tokens; ids outside the vocabulary are
  /// skipped.
  ///
  /// Errors: those of ValidateSamplingOptions.
  static Result<Sampler> Create(const SamplingOptions& options, int32_t vocab_size,
                                std::span<const int32_t> prompt);
  /// The bytes of one's buffers once it has sampled from all tokens.
  static int64_t BytesFor(int64_t vocab_size) {
    return vocab_size * static_cast<int64_t>(sizeof(float) + sizeof(Candidate) + sizeof(Weighted));
  }

  /// Chooses the next token and counts it as part of the answer. Takes linear time, but for sorting
  /// the tokens that top_p and typical_p keep.
  ///
  ///   logits   [vocab_size] f32; -infinity forbids a token
  ///   allowed  a bit for each token, bit id % 64 of word id / 64; those without one are forbidden
  ///
  /// Errors: kInvalidInput if the length is not the vocabulary's, a logit is NaN or +infinity, or
  /// every token is forbidden.
  Result<int32_t> Sample(std::span<const float> logits,
                         std::optional<std::span<const uint64_t>> allowed = std::nullopt);

 private:
  struct Candidate {
    float logit;
    int32_t id;
  };
  struct Weighted {
    double weight;
    double surprise_gap;  ///< |surprise - entropy|, for typical_p
    Candidate candidate;
  };

  Sampler(const SamplingOptions& options, int32_t vocab_size);

  Result<void> CheckLogits(std::span<const float> logits) const;
  void Remember(int32_t id);
  bool CountsAnswer() const {
    return options_.frequency_penalty != 0.0F || options_.presence_penalty != 0.0F;
  }
  void Forbid(std::span<const uint64_t> allowed);
  void ApplyBiasAndPenalties();
  void CollectCandidates();
  void KeepTopK();
  void KeepTypical();
  void KeepTopP();
  void KeepMinP();
  double LargestLogit() const;
  /// Fills weighted_ from candidates_ in order of ids; returns the sum of weights.
  double Weigh(double temperature);
  template <class Before>
  void KeepMass(double mass, Before before);
  void SortById();
  int32_t Draw();

  SamplingOptions options_;
  int32_t vocab_size_;
  Random random_;
  std::vector<int32_t> recent_;  ///< ring of the last repeat_last_n tokens
  size_t recent_next_ = 0;
  std::unordered_map<int32_t, int32_t> recent_counts_;
  std::unordered_map<int32_t, int32_t> answer_counts_;
  std::vector<float> adjusted_;        ///< logits after biases and penalties
  std::vector<Candidate> candidates_;  ///< scratch of one call
  std::vector<Weighted> weighted_;     ///< scratch of one call
};

/// The log-probability of `id`, then those of the `count` most probable tokens, best first, the
/// lower id of equal ones: log-softmax of the model's own logits, computed in double precision.
std::vector<TokenLogprob> TokenLogprobs(std::span<const float> logits, int32_t id, int32_t count);

}  // namespace moxie
