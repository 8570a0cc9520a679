#include "forward/attention.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace moxie {
namespace {

constexpr int64_t kHeads = 6, kKvHeads = 2, kDim = 10;

struct Case {
  AttentionRule rule;
  int64_t page_tokens;
};

/// Softmax attention as the formula says, in float64, over all positions with a mask.
void Reference(const AttentionRule& rule, const float* query, int64_t position, int64_t head,
               const std::vector<std::vector<float>>& keys,
               const std::vector<std::vector<float>>& values, double* out) {
  const int64_t kv_head = head / (kHeads / kKvHeads);
  std::vector<double> weights;
  double sum =
      rule.sinks.empty() ? 0 : std::exp(static_cast<double>(rule.sinks[static_cast<size_t>(head)]));
  for (int64_t p = 0; p <= position; ++p) {
    double score = 0;
    for (int64_t d = 0; d < kDim; ++d)
      score += static_cast<double>(query[d]) *
               static_cast<double>(
                   keys[static_cast<size_t>(p)][static_cast<size_t>(kv_head * kDim + d)]);
    score *= static_cast<double>(rule.scale);
    if (rule.softcap > 0)
      score =
          static_cast<double>(rule.softcap) * std::tanh(score / static_cast<double>(rule.softcap));
    const bool seen = rule.window == 0 || p > position - rule.window;
    sum += weights.emplace_back(seen ? std::exp(score) : 0);
  }
  for (int64_t d = 0; d < kDim; ++d) {
    out[d] = 0;
    for (int64_t p = 0; p <= position; ++p)
      out[d] += weights[static_cast<size_t>(p)] / sum *
                static_cast<double>(
                    values[static_cast<size_t>(p)][static_cast<size_t>(kv_head * kDim + d)]);
  }
}

TEST(PagedAttention, AgreesWithTheFormula) {
  const std::vector<float> sinks = {0.5f, -1, 2, 0, 3, -2};
  const Case cases[] = {{{.scale = 0.3f}, 32},
                        {{.scale = 0.3f}, 3},
                        {{.scale = 0.3f, .softcap = 1.5f}, 4},
                        {{.scale = 0.3f, .window = 5}, 4},
                        {{.scale = 0.3f, .window = 1}, 4},
                        {{.scale = 0.3f, .window = 9, .sinks = sinks}, 8},
                        {{.scale = 3.0f, .sinks = sinks}, 16}};
  for (const KernelSet* kernels : AllKernelSets()) {
    if (!kernels->usable()) continue;
    SCOPED_TRACE(kernels->name);
    for (const Case& test : cases) {
      ModelConfig config;
      config.attention.heads = kHeads;
      config.attention.kv_heads = kKvHeads;
      config.attention.head_dim = kDim;
      config.layers.push_back({.window = test.rule.window});
      auto cache = *KvCache::Create(config, {.type = DType::kF32, .page_tokens = test.page_tokens});
      const SequenceId sequence = *cache->CreateSequence();
      ThreadPool threads(2);
      PagedAttention attention(*kernels, threads, kHeads, kKvHeads, kDim, 64);

      std::mt19937 random(1);
      std::normal_distribution<float> normal;
      const auto draw = [&](size_t count) {
        std::vector<float> row(count);
        for (float& x : row) x = normal(random);
        return row;
      };
      std::vector<std::vector<float>> keys, values;
      for (const int64_t tokens : {20, 1, 1, 13}) {
        const int64_t first = cache->Length(sequence);
        ASSERT_TRUE(cache->Reserve(sequence, tokens));
        std::vector<TokenPlace> places;
        for (int64_t i = 0; i < tokens; ++i) {
          keys.push_back(draw(kKvHeads * kDim));
          values.push_back(draw(kKvHeads * kDim));
          places.push_back({sequence, first + i});
          cache->Store(sequence, 0, first + i, keys.back().data(), values.back().data());
        }
        const BatchChunk chunk{sequence, 0, tokens, first};
        const auto queries = draw(static_cast<size_t>(tokens * kHeads * kDim));
        std::vector<float> out(queries.size());
        attention.Run(test.rule, 0, {{&chunk, 1}, places}, *cache, queries.data(), out.data());
        cache->Commit(sequence, tokens);
        for (int64_t row = 0; row < tokens * kHeads; ++row) {
          double want[kDim];
          Reference(test.rule, queries.data() + row * kDim, first + row / kHeads, row % kHeads,
                    keys, values, want);
          // Weighted means of values below 5 or so, from some tens of float32 roundings.
          for (int64_t d = 0; d < kDim; ++d)
            ASSERT_NEAR(static_cast<double>(out[static_cast<size_t>(row * kDim + d)]), want[d],
                        2e-5)
                << "row " << row;
        }
      }
    }
  }
}

}  // namespace
}  // namespace moxie
