#include "sampling/sampler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <random>
#include <set>

#include "sampling/portable_exp.h"

namespace moxie {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<float> RandomLogits(uint32_t seed, size_t size, float scale) {
  std::mt19937 random(seed);
  std::vector<float> logits(size);
  for (float& logit : logits) {
    const double u = (static_cast<double>(random()) + 0.5) / 4294967296.0;
    logit = static_cast<float>(scale * std::log(u / (1 - u)));
  }
  return logits;
}

Sampler Make(const SamplingOptions& options, size_t vocab, std::vector<int32_t> prompt = {}) {
  auto sampler = Sampler::Create(options, static_cast<int32_t>(vocab), prompt);
  EXPECT_TRUE(sampler) << sampler.error().message;
  return std::move(sampler).value();
}

/// The distribution that the header's steps define, written as plainly as possible: full sorts,
/// long double, renormalised after each step.
std::map<int32_t, long double> Reference(const SamplingOptions& o, std::vector<float> logits,
                                         const std::vector<int32_t>& prompt,
                                         const std::vector<int32_t>& answer) {
  const auto at = [&](int32_t id) -> float& { return logits[static_cast<size_t>(id)]; };
  for (const auto& [id, bias] : o.logit_bias) at(id) += bias;
  std::vector<int32_t> all = prompt;
  all.insert(all.end(), answer.begin(), answer.end());
  const size_t window = o.repeat_last_n < 0
                            ? all.size()
                            : std::min<size_t>(all.size(), static_cast<size_t>(o.repeat_last_n));
  for (const int32_t id :
       std::set<int32_t>(all.end() - static_cast<std::ptrdiff_t>(window), all.end()))
    at(id) = at(id) > 0 ? at(id) / o.repeat_penalty : at(id) * o.repeat_penalty;
  for (const int32_t id : answer) at(id) -= o.frequency_penalty;
  for (const int32_t id : std::set<int32_t>(answer.begin(), answer.end()))
    at(id) -= o.presence_penalty;

  std::vector<int32_t> left(logits.size());
  std::iota(left.begin(), left.end(), 0);
  std::erase_if(left, [&](int32_t id) { return at(id) == -kInfinity; });
  const auto probabilities = [&](long double temperature) {
    std::map<int32_t, long double> p;
    long double sum = 0, largest = -1e30L;
    for (const int32_t id : left) largest = std::max<long double>(largest, at(id));
    for (const int32_t id : left) sum += p[id] = std::exp((at(id) - largest) / temperature);
    for (auto& [id, value] : p) value /= sum;
    return p;
  };
  const auto keep_mass = [&](long double mass, auto before) {
    const auto p = probabilities(1);
    std::stable_sort(left.begin(), left.end(), before);
    long double sum = 0;
    size_t kept = 0;
    while (kept < left.size() && (kept == 0 || sum < mass)) sum += p.at(left[kept++]);
    left.resize(kept);
    std::sort(left.begin(), left.end());
  };
  const auto by_logit = [&](int32_t a, int32_t b) { return at(a) > at(b); };
  if (o.top_k > 0) {
    std::stable_sort(left.begin(), left.end(), by_logit);
    left.resize(std::min(left.size(), static_cast<size_t>(o.top_k)));
    std::sort(left.begin(), left.end());
  }
  if (o.typical_p < 1) {
    const auto p = probabilities(1);
    long double entropy = 0;
    for (const auto& [id, value] : p) entropy -= value > 0 ? value * std::log(value) : 0;
    keep_mass(o.typical_p, [&](int32_t a, int32_t b) {
      return std::abs(-std::log(p.at(a)) - entropy) < std::abs(-std::log(p.at(b)) - entropy);
    });
  }
  if (o.top_p < 1) keep_mass(o.top_p, by_logit);
  if (o.min_p > 0) {
    const auto p = probabilities(1);
    long double most = 0;
    for (const auto& [id, value] : p) most = std::max(most, value);
    std::erase_if(left, [&](int32_t id) { return p.at(id) < o.min_p * most; });
  }
  return probabilities(o.temperature);
}

/// Pearson's statistic of the draws against the expected probabilities must stay below the 99.999 %
/// point of chi-square (Wilson and Hilferty's approximation); rare tokens are pooled.
void ExpectDistribution(const std::map<int32_t, int>& counts, int draws,
                        const std::map<int32_t, long double>& expected) {
  double statistic = 0, pooled_expected = 0;
  int pooled_count = 0, cells = 0;
  for (const auto& [id, count] : counts) EXPECT_TRUE(expected.count(id)) << "token " << id;
  for (const auto& [id, probability] : expected) {
    const double want = static_cast<double>(probability) * draws;
    const int got = counts.count(id) != 0 ? counts.at(id) : 0;
    if (want < 5) {
      pooled_expected += want;
      pooled_count += got;
      continue;
    }
    statistic += (got - want) * (got - want) / want;
    ++cells;
  }
  if (pooled_expected >= 5) {
    statistic +=
        (pooled_count - pooled_expected) * (pooled_count - pooled_expected) / pooled_expected;
    ++cells;
  }
  const double df = std::max(cells - 1, 1);
  const double limit = df * std::pow(1 - 2 / (9 * df) + 4.265 * std::sqrt(2 / (9 * df)), 3);
  EXPECT_LT(statistic, limit) << df << " degrees of freedom";
}

TEST(Random, GivesThePublishedStream) {
  // SplitMix64 from 0, and xoshiro256** from that state, by their authors' C code.
  Random random(0);
  EXPECT_EQ(random.Next(), 0x99ec5f36cb75f2b4U);
  EXPECT_EQ(random.Next(), 0xbf6e1f784956452aU);
  EXPECT_EQ(random.Next(), 0x1a5f849d4933e6e0U);
}

TEST(PortableExp, IsExpWithinRounding) {
  for (double x = 0; x > -699; x -= 0.0137)
    EXPECT_NEAR(PortableExp(x) / static_cast<double>(std::exp(static_cast<long double>(x))), 1,
                2e-15)
        << x;
  EXPECT_EQ(PortableExp(0), 1.0);
  EXPECT_EQ(PortableExp(-701), 0.0);
  EXPECT_EQ(PortableExp(-HUGE_VAL), 0.0);
}

TEST(Sampler, GreedyTakesTheLowestIdOfEqualLogits) {
  SamplingOptions options;
  options.temperature = 0;
  Sampler sampler = Make(options, 5);
  EXPECT_EQ(sampler.Sample(std::vector<float>{1, 3, 2, 3, 3}).value(), 1);
  EXPECT_EQ(sampler.Sample(std::vector<float>{-kInfinity, -5, -7, -kInfinity, -5}).value(), 1);
}

TEST(Sampler, RefusesWhatIsNoDistribution) {
  for (const float temperature : {0.0F, 1.0F}) {
    SamplingOptions options;
    options.temperature = temperature;
    Sampler sampler = Make(options, 3);
    EXPECT_THAT(sampler.Sample(std::vector<float>{1, NAN, 2}).error().message,
                testing::HasSubstr("token 1 is NaN"));
    EXPECT_THAT(sampler.Sample(std::vector<float>{1, 2, kInfinity}).error().message,
                testing::HasSubstr("token 2 is infinite"));
    EXPECT_FALSE(sampler.Sample(std::vector<float>(3, -kInfinity)));
    EXPECT_FALSE(sampler.Sample(std::vector<float>(4, 0)));
  }
}

struct Case {
  const char* name;
  SamplingOptions options;
};

std::vector<Case> Cases() {
  std::vector<Case> cases = {{"plain", {}}};
  const auto add = [&](const char* name, auto change) {
    SamplingOptions options;
    change(options);
    cases.push_back({name, options});
  };
  add("temperature", [](auto& o) { o.temperature = 0.6F; });
  add("hot", [](auto& o) { o.temperature = 3.0F; });
  add("top_k", [](auto& o) { o.top_k = 7; });
  add("top_k of one", [](auto& o) { o.top_k = 1; });
  add("top_p", [](auto& o) { o.top_p = 0.8F; });
  add("top_p of zero", [](auto& o) { o.top_p = 0.0F; });
  add("min_p", [](auto& o) { o.min_p = 0.07F; });
  add("typical_p", [](auto& o) { o.typical_p = 0.6F; });
  add("repeat", [](auto& o) { o.repeat_penalty = 1.7F; });
  add("repeat of a short window", [](auto& o) {
    o.repeat_penalty = 1.7F;
    o.repeat_last_n = 2;
  });
  add("repeat of all", [](auto& o) {
    o.repeat_penalty = 0.5F;
    o.repeat_last_n = -1;
  });
  add("presence", [](auto& o) { o.presence_penalty = 1.5F; });
  add("frequency", [](auto& o) { o.frequency_penalty = -0.5F; });
  add("bias", [](auto& o) { o.logit_bias = {{3, 4.0F}, {0, -kInfinity}, {3, 1.0F}}; });
  add("all", [](auto& o) {
    o = {.temperature = 1.4F,
         .top_k = 40,
         .typical_p = 0.95F,
         .top_p = 0.9F,
         .min_p = 0.02F,
         .repeat_penalty = 1.1F,
         .repeat_last_n = 5,
         .presence_penalty = 0.2F,
         .frequency_penalty = 0.1F,
         .logit_bias = {{5, 1.0F}},
         .seed = 9};
  });
  return cases;
}

TEST(Sampler, DrawsFromTheDistributionItsStepsDefine) {
  constexpr int kDraws = 6000;
  const std::vector<int32_t> prompt = {1, 2, 2, 9};
  for (const size_t vocab : {12, 300}) {
    for (Case test : Cases()) {
      SCOPED_TRACE(std::string(test.name) + ", vocabulary of " + std::to_string(vocab));
      const std::vector<float> logits = RandomLogits(static_cast<uint32_t>(vocab), vocab, 1.5F);
      // The answer so far is forced by a bias on one token at a time.
      const std::vector<int32_t> answer = {4, 4, 7};
      std::map<int32_t, int> counts;
      for (int i = 0; i < kDraws; ++i) {
        test.options.seed = static_cast<uint64_t>(i) + 1000 * vocab;
        Sampler sampler = Make(test.options, vocab, prompt);
        for (const int32_t id : answer) {
          std::vector<float> forced(vocab, -kInfinity);
          forced[static_cast<size_t>(id)] = 1;
          ASSERT_EQ(sampler.Sample(forced).value(), id);
        }
        ++counts[sampler.Sample(logits).value()];
      }
      ExpectDistribution(counts, kDraws, Reference(test.options, logits, prompt, answer));
    }
  }
}

TEST(Sampler, CutsAWholeVocabularyAsAFullSortWould) {
  // Above 64 kept tokens the partial sorts go through several rounds.
  constexpr size_t kVocab = 20000;
  const std::vector<float> logits = RandomLogits(3, kVocab, 0.7F);
  for (Case test : Cases()) {
    SCOPED_TRACE(test.name);
    test.options.repeat_penalty = 1;  // Penalties would change the logits from draw to draw.
    test.options.presence_penalty = test.options.frequency_penalty = 0;
    const auto expected = Reference(test.options, logits, {}, {});
    Sampler sampler = Make(test.options, kVocab);
    for (int i = 0; i < 60; ++i) {
      const int32_t id = sampler.Sample(logits).value();
      EXPECT_EQ(expected.count(id), 1U) << id;
    }
  }
}

TEST(Sampler, EqualSeedsGiveEqualTokens) {
  SamplingOptions options;
  options.seed = 42;
  const std::vector<float> logits = RandomLogits(5, 1000, 1.0F);
  const auto draw = [&](uint64_t seed) {
    options.seed = seed;
    Sampler sampler = Make(options, logits.size());
    std::vector<int32_t> ids;
    for (int i = 0; i < 20; ++i) ids.push_back(sampler.Sample(logits).value());
    return ids;
  };
  EXPECT_EQ(draw(42), draw(42));
  EXPECT_NE(draw(42), draw(43));
}

TEST(Sampler, DrawIsTheHeadersFormula) {
  // One draw by hand: u of the published stream against running sums of exp.
  const std::vector<float> logits = {0.5F, -1.0F, 2.0F, 0.0F};
  for (uint64_t seed = 0; seed < 200; ++seed) {
    SamplingOptions options;
    options.seed = seed;
    options.temperature = 0.8F;
    const double u = static_cast<double>(Random(seed).Next() >> 11) / 9007199254740992.0;
    double sum = 0;
    for (const float logit : logits) sum += std::exp((logit - 2.0) / 0.8F);
    int32_t want = 0;
    for (double running = std::exp((logits[0] - 2.0) / 0.8F); running <= u * sum;)
      running += std::exp((logits[static_cast<size_t>(++want)] - 2.0) / 0.8F);
    EXPECT_EQ(Make(options, 4).Sample(logits).value(), want) << seed;
  }
}

TEST(Sampler, ExtremeValuesStayFinite) {
  SamplingOptions options;
  options.temperature = 1e-30F;
  options.logit_bias = {{1, 3e38F}, {2, -3e38F}};
  options.presence_penalty = 3e38F;
  options.frequency_penalty = -3e38F;
  Sampler sampler = Make(options, 3);
  for (int i = 0; i < 5; ++i)
    EXPECT_TRUE(sampler.Sample(std::vector<float>{-3e38F, 3e38F, -3e38F}));
}

TEST(TokenLogprobs, AreTheLogSoftmaxOfTheModelsLogits) {
  const std::vector<float> logits = {1.0F, 3.0F, -kInfinity, 3.0F, 2.0F};
  const double log_sum = std::log(std::exp(1.0) + 2 * std::exp(3.0) + std::exp(2.0));
  const std::vector<TokenLogprob> got = TokenLogprobs(logits, 4, 3);
  const int32_t ids[] = {4, 1, 3, 4};
  const double values[] = {2, 3, 3, 2};
  ASSERT_EQ(got.size(), 4U);
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(got[i].id, ids[i]);
    EXPECT_NEAR(got[i].logprob, values[i] - log_sum, 1e-6);
  }
  EXPECT_EQ(TokenLogprobs(logits, 2, 100).size(), 6U);
}

TEST(SamplingOptions, OutOfRangeValuesNameTheOptionAndItsRange) {
  const auto message = [](auto change) {
    SamplingOptions options;
    change(options);
    const auto result = ValidateSamplingOptions(options, 100);
    return result ? std::string() : result.error().message;
  };
  EXPECT_EQ(message([](auto&) {}), "");
  EXPECT_EQ(message([](auto& o) { o.temperature = -1; }),
            "--temperature: is -1, but must be 0 or more, and finite");
  EXPECT_EQ(message([](auto& o) { o.temperature = NAN; }),
            "--temperature: is nan, but must be 0 or more, and finite");
  EXPECT_EQ(message([](auto& o) { o.top_k = -5; }),
            "--top-k: is -5, but must be 0 (all tokens) or more");
  EXPECT_EQ(message([](auto& o) { o.top_p = 1.5F; }), "--top-p: is 1.5, but must be in [0, 1]");
  EXPECT_EQ(message([](auto& o) { o.typical_p = 0; }), "--typical-p: is 0, but must be in (0, 1]");
  EXPECT_EQ(message([](auto& o) { o.min_p = NAN; }), "--min-p: is nan, but must be in [0, 1]");
  EXPECT_EQ(message([](auto& o) { o.repeat_penalty = 0; }),
            "--repeat-penalty: is 0, but must be more than 0, and finite");
  EXPECT_EQ(message([](auto& o) { o.repeat_last_n = -2; }),
            "--repeat-last-n: is -2, but must be -1 (the whole text), 0 or more");
  EXPECT_EQ(message([](auto& o) { o.presence_penalty = kInfinity; }),
            "--presence-penalty: is inf, but must be finite");
  EXPECT_EQ(message([](auto& o) { o.frequency_penalty = NAN; }),
            "--frequency-penalty: is nan, but must be finite");
  EXPECT_EQ(message([](auto& o) {
              o.logit_bias = {{100, 1.0F}};
            }),
            "--logit-bias: is for token 100, but must be for a token in 0..99");
  EXPECT_EQ(message([](auto& o) {
              o.logit_bias = {{5, kInfinity}};
            }),
            "--logit-bias: is inf, but must be a number or -inf");
  EXPECT_EQ(message([](auto& o) { o.logit_bias = {{5, -kInfinity}}; }), "");
}

}  // namespace
}  // namespace moxie
