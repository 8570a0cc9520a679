#pragma once

#include <gtest/gtest.h>

#include <cmath>

#include "support/golden.h"

namespace moxie::testing {

/// Keeps all that a forward pass shows.
struct Recorder : RoutingObserver, HiddenObserver {
  void OnRouting(int64_t, std::span<const float> logits, std::span<const int32_t> ids,
                 std::span<const float> weights) override {
    router.insert(router.end(), logits.begin(), logits.end());
    experts.insert(experts.end(), ids.begin(), ids.end());
    choice_weights.insert(choice_weights.end(), weights.begin(), weights.end());
  }
  void OnHidden(int64_t index, std::span<const float> rows) override {
    EXPECT_EQ(index, hidden_calls++);
    hidden.insert(hidden.end(), rows.begin(), rows.end());
  }
  ForwardObservers observers() { return {.routing = this, .hidden = this}; }

  std::vector<float> router, choice_weights, hidden;
  std::vector<int32_t> experts;
  int64_t hidden_calls = 0;
};

inline double NegativeLogLikelihood(std::span<const float> logits, std::span<const int32_t> ids,
                                    size_t vocab) {
  double nll = 0;
  for (size_t t = 0; t + 1 < ids.size(); ++t) {
    const auto row = logits.subspan(t * vocab, vocab);
    const auto max = static_cast<double>(*std::ranges::max_element(row));
    double sum = 0;
    for (const float logit : row) sum += std::exp(static_cast<double>(logit) - max);
    nll += std::log(sum) + max - static_cast<double>(row[static_cast<size_t>(ids[t + 1])]);
  }
  return nll;
}

/// Expert ids must be equal but where two logits are closer than the tolerance.
inline void ExpectSameExperts(const GoldenSequence& want, const Recorder& got, float tolerance) {
  ASSERT_EQ(got.experts.size(), want.experts->values.size());
  const auto used = static_cast<size_t>(want.experts->shape[2]);
  const auto count = static_cast<size_t>(want.router->shape[2]);
  for (size_t i = 0; i < got.experts.size(); ++i) {
    const int32_t a = got.experts[i], b = want.experts->values[i];
    if (a == b) {
      EXPECT_NEAR(got.choice_weights[i], want.weights->values[i], 10 * tolerance) << i;
      continue;
    }
    const float* logits = want.router->values.data() + i / used * count;
    EXPECT_NEAR(logits[a], logits[b], tolerance) << "row " << i / used << " choice " << i % used;
  }
}

/// Everything that the folder says of a model, within `tolerance` of the largest value of its kind;
/// greedy text exactly.
inline void ExpectGolden(const Golden& golden, const LoadedModel& model, const Runner::Setup& setup,
                         float tolerance) {
  Runner runner(model, setup);
  ASSERT_NE(runner.decoder, nullptr);
  for (const GoldenSequence& want : golden.sequences) {
    SCOPED_TRACE(want.name);
    Recorder recorder;
    const SequenceId sequence = runner.NewSequence();
    const auto logits = runner.Run(sequence, want.ids, recorder.observers());
    runner.cache->FreeSequence(sequence);
    const float allowed = tolerance * Largest(want.logits.values);
    if (want.hidden) {
      const size_t layer = want.ids.size() * static_cast<size_t>(model.config.dim);
      ASSERT_EQ(recorder.hidden.size(), want.hidden->values.size());
      for (size_t i = 0; i * layer < recorder.hidden.size(); ++i) {
        const auto expected = std::span(want.hidden->values).subspan(i * layer, layer);
        EXPECT_LE(Distance(std::span(recorder.hidden).subspan(i * layer, layer), expected),
                  tolerance * Largest(expected))
            << "hidden state " << i;
      }
    }
    if (want.router) {
      EXPECT_LE(Distance(recorder.router, want.router->values),
                tolerance * Largest(want.router->values));
      ExpectSameExperts(want, recorder, tolerance);
    }
    EXPECT_LE(Distance(logits, want.logits.values), allowed);
    if (want.nll) {
      const auto vocab = static_cast<size_t>(runner.vocab);
      EXPECT_NEAR(NegativeLogLikelihood(logits, want.ids, vocab), *want.nll,
                  static_cast<double>(2 * allowed) * static_cast<double>(want.ids.size()));
    }
  }
  EXPECT_EQ(runner.Greedy(golden.prompt, golden.greedy.size()), golden.greedy);
}

}  // namespace moxie::testing
