#include "sampling/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>

#include "sampling/portable_exp.h"

namespace moxie {
namespace {

Error AllForbidden() {
  return {ErrorCode::kInvalidInput, "logits: every token is forbidden (-infinity)"};
}

}  // namespace

Result<Sampler> Sampler::Create(const SamplingOptions& options, int32_t vocab_size,
                                std::span<const int32_t> prompt) {
  MOXIE_TRY(ValidateSamplingOptions(options, vocab_size));
  Sampler sampler(options, vocab_size);
  for (const int32_t id : prompt) sampler.Remember(id);
  return sampler;
}

Sampler::Sampler(const SamplingOptions& options, int32_t vocab_size)
    : options_(options), vocab_size_(vocab_size), random_(options.seed) {}

void Sampler::Remember(int32_t id) {
  const int32_t window = options_.repeat_last_n;
  // Counting takes memory, a little for each token that has not been there before.
  if (options_.repeat_penalty == 1.0F || window == 0) return;
  if (id < 0 || id >= vocab_size_) return;
  ++recent_counts_[id];
  if (window < 0) return;
  if (recent_.size() < static_cast<size_t>(window)) {
    recent_.push_back(id);
    return;
  }
  int32_t& oldest = recent_[recent_next_];
  if (--recent_counts_[oldest] == 0) recent_counts_.erase(oldest);
  oldest = id;
  recent_next_ = (recent_next_ + 1) % recent_.size();
}

Result<void> Sampler::CheckLogits(std::span<const float> logits) const {
  if (logits.size() != static_cast<size_t>(vocab_size_)) {
    return Error{ErrorCode::kInvalidInput, "logits: are " + std::to_string(logits.size()) +
                                               ", but the vocabulary has " +
                                               std::to_string(vocab_size_) + " tokens"};
  }
  for (size_t i = 0; i < logits.size(); ++i) {
    if (logits[i] <= std::numeric_limits<float>::max()) continue;
    return Error{ErrorCode::kInvalidInput, "logits: that of token " + std::to_string(i) + " is " +
                                               (std::isnan(logits[i]) ? "NaN" : "infinite") +
                                               ", but must be finite"};
  }
  return {};
}

void Sampler::Forbid(std::span<const uint64_t> allowed) {
  constexpr size_t kBits = 64;
  for (size_t begin = 0; begin < adjusted_.size(); begin += kBits) {
    const uint64_t word = begin / kBits < allowed.size() ? allowed[begin / kBits] : 0;
    if (word == ~uint64_t{0}) continue;
    const size_t end = std::min(begin + kBits, adjusted_.size());
    for (size_t i = begin; i < end; ++i) {
      if ((word >> (i - begin) & 1) == 0) adjusted_[i] = -std::numeric_limits<float>::infinity();
    }
  }
}

void Sampler::ApplyBiasAndPenalties() {
  // Sums beyond a float's range stay finite, and a forbidden token stays forbidden.
  const auto set = [&](int32_t id, float value) {
    value = std::isnan(value) ? -std::numeric_limits<float>::infinity() : value;
    adjusted_[static_cast<size_t>(id)] = std::min(value, std::numeric_limits<float>::max());
  };
  const auto get = [&](int32_t id) { return adjusted_[static_cast<size_t>(id)]; };
  for (const auto& [id, bias] : options_.logit_bias) set(id, get(id) + bias);
  if (options_.repeat_penalty != 1.0F) {
    const float penalty = options_.repeat_penalty;
    for (const auto& [id, count] : recent_counts_)
      set(id, get(id) > 0 ? get(id) / penalty : get(id) * penalty);
  }
  if (!CountsAnswer()) return;
  for (const auto& [id, count] : answer_counts_) {
    set(id, get(id) - static_cast<float>(count) * options_.frequency_penalty -
                options_.presence_penalty);
  }
}

void Sampler::CollectCandidates() {
  candidates_.clear();
  candidates_.reserve(adjusted_.size());
  weighted_.reserve(adjusted_.size());
  for (size_t i = 0; i < adjusted_.size(); ++i) {
    if (std::isfinite(adjusted_[i])) candidates_.push_back({adjusted_[i], static_cast<int32_t>(i)});
  }
}

void Sampler::KeepTopK() {
  const auto k = static_cast<size_t>(options_.top_k);
  if (k == 0 || k >= candidates_.size()) return;
  const auto better = [](const Candidate& a, const Candidate& b) {
    return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
  };
  std::nth_element(candidates_.begin(), candidates_.begin() + static_cast<std::ptrdiff_t>(k),
                   candidates_.end(), better);
  candidates_.resize(k);
}

double Sampler::LargestLogit() const {
  float largest = -std::numeric_limits<float>::infinity();
  for (const Candidate& candidate : candidates_) largest = std::max(largest, candidate.logit);
  return largest;
}

void Sampler::SortById() {
  const auto by_id = [](const Candidate& a, const Candidate& b) { return a.id < b.id; };
  if (std::is_sorted(candidates_.begin(), candidates_.end(), by_id)) return;
  std::sort(candidates_.begin(), candidates_.end(), by_id);
}

double Sampler::Weigh(double temperature) {
  // In order of ids, so that the sum does not depend on how the candidates were found.
  SortById();
  const double largest = LargestLogit();
  weighted_.clear();
  double sum = 0;
  for (const Candidate& candidate : candidates_) {
    const double weight = PortableExp((candidate.logit - largest) / temperature);
    weighted_.push_back({weight, 0, candidate});
    sum += weight;
  }
  return sum;
}

// Keeps the first tokens by `before` until their weights reach `mass`. Sorts no more of them than
// that takes: sorting a whole vocabulary would cost more than all the rest.
template <class Before>
void Sampler::KeepMass(double mass, Before before) {
  double sum = 0;
  size_t kept = 0;
  size_t sorted = 0;
  const auto at = [&](size_t i) { return weighted_.begin() + static_cast<std::ptrdiff_t>(i); };
  while (kept < weighted_.size() && (kept == 0 || sum < mass)) {
    if (kept == sorted) {
      const size_t next = std::min(weighted_.size(), std::max<size_t>(64, sorted * 4));
      if (next < weighted_.size()) std::nth_element(at(sorted), at(next), weighted_.end(), before);
      std::sort(at(sorted), at(next), before);
      sorted = next;
    }
    sum += weighted_[kept++].weight;
  }
  candidates_.clear();
  for (size_t i = 0; i < kept; ++i) candidates_.push_back(weighted_[i].candidate);
}

void Sampler::KeepTypical() {
  if (options_.typical_p >= 1.0F || candidates_.size() < 2) return;
  const double sum = Weigh(1.0);
  const double largest = LargestLogit();
  // Surprise is -log p = log(sum) - d, with d = logit - largest, and the entropy is log(sum) minus
  // the mean of d; so their distance needs no logarithm.
  double mean = 0;
  for (const Weighted& each : weighted_) {
    if (each.weight > 0) mean += each.weight / sum * (each.candidate.logit - largest);
  }
  for (Weighted& each : weighted_)
    each.surprise_gap = std::abs(each.candidate.logit - largest - mean);
  KeepMass(options_.typical_p * sum, [](const Weighted& a, const Weighted& b) {
    return a.surprise_gap != b.surprise_gap ? a.surprise_gap < b.surprise_gap
                                            : a.candidate.id < b.candidate.id;
  });
}

void Sampler::KeepTopP() {
  if (options_.top_p >= 1.0F || candidates_.size() < 2) return;
  const double sum = Weigh(1.0);
  KeepMass(options_.top_p * sum, [](const Weighted& a, const Weighted& b) {
    return a.candidate.logit != b.candidate.logit ? a.candidate.logit > b.candidate.logit
                                                  : a.candidate.id < b.candidate.id;
  });
}

void Sampler::KeepMinP() {
  if (options_.min_p <= 0.0F || candidates_.size() < 2) return;
  const double largest = LargestLogit();
  std::erase_if(candidates_, [&](const Candidate& candidate) {
    return PortableExp(candidate.logit - largest) < options_.min_p;
  });
}

int32_t Sampler::Draw() {
  const double sum = Weigh(options_.temperature);
  const double target = random_.NextUniform() * sum;
  double running = 0;
  for (const Weighted& each : weighted_) {
    running += each.weight;
    if (running > target) return each.candidate.id;
  }
  // u is at most 1 - 2^-53, so the target is less than the sum, which the same additions give.
  MOXIE_CHECK(false);
  return 0;
}

Result<int32_t> Sampler::Sample(std::span<const float> logits,
                                std::optional<std::span<const uint64_t>> allowed) {
  MOXIE_TRY(CheckLogits(logits));
  adjusted_.assign(logits.begin(), logits.end());
  if (allowed) Forbid(*allowed);
  ApplyBiasAndPenalties();
  int32_t chosen = 0;
  if (options_.temperature == 0.0F) {
    // max_element gives the first of equal ones.
    const auto largest = std::max_element(adjusted_.begin(), adjusted_.end());
    if (!std::isfinite(*largest)) return AllForbidden();
    chosen = static_cast<int32_t>(largest - adjusted_.begin());
  } else {
    CollectCandidates();
    if (candidates_.empty()) return AllForbidden();
    KeepTopK();
    KeepTypical();
    KeepTopP();
    KeepMinP();
    chosen = Draw();
  }
  Remember(chosen);
  if (CountsAnswer()) ++answer_counts_[chosen];
  return chosen;
}

std::vector<TokenLogprob> TokenLogprobs(std::span<const float> logits, int32_t id, int32_t count) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - largest);
  const double log_sum = largest + std::log(sum);
  const auto logprob = [&](int32_t token) -> TokenLogprob {
    return {token, static_cast<float>(logits[static_cast<size_t>(token)] - log_sum)};
  };

  std::vector<int32_t> ids(logits.size());
  std::iota(ids.begin(), ids.end(), 0);
  const size_t kept = std::min(ids.size(), static_cast<size_t>(std::max(count, 0)));
  std::partial_sort(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(kept), ids.end(),
                    [&](int32_t a, int32_t b) {
                      const float x = logits[static_cast<size_t>(a)];
                      const float y = logits[static_cast<size_t>(b)];
                      return x != y ? x > y : a < b;
                    });
  std::vector<TokenLogprob> result = {logprob(id)};
  for (size_t i = 0; i < kept; ++i) result.push_back(logprob(ids[i]));
  return result;
}

}  // namespace moxie
