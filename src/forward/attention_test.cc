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

/// By how much products may be off at most, of what is seen: the greatest sum of a score's terms,
/// and the greatest value.
struct Magnitudes {
  double score = 0, value = 0;

  /// Of a result, where a set's tiles split each factor of a product in two bfloat16 numbers, which
  /// moves scores by 2^-15 of their terms, and exponentials and values by as much (float32's own
  /// roundings are less by far). A weighted mean moves by the weights' change times the values.
  double TileError() const { return 0x1p-15 * (2 * score + 1) * value; }
};

/// Softmax attention as the formula says, in float64, over all positions with a mask.
Magnitudes Reference(const AttentionRule& rule, const float* query, int64_t position, int64_t head,
                     const std::vector<std::vector<float>>& keys,
                     const std::vector<std::vector<float>>& values, double* out) {
  const int64_t kv_head = head / (kHeads / kKvHeads);
  std::vector<double> weights;
  Magnitudes magnitudes;
  double sum =
      rule.sinks.empty() ? 0 : std::exp(static_cast<double>(rule.sinks[static_cast<size_t>(head)]));
  for (int64_t p = 0; p <= position; ++p) {
    double score = 0, terms = 0;
    for (int64_t d = 0; d < kDim; ++d) {
      const auto at = static_cast<size_t>(kv_head * kDim + d);
      const double term =
          static_cast<double>(query[d]) * static_cast<double>(keys[static_cast<size_t>(p)][at]);
      score += term;
      terms += std::fabs(term);
      magnitudes.value = std::max(
          magnitudes.value, std::fabs(static_cast<double>(values[static_cast<size_t>(p)][at])));
    }
    magnitudes.score = std::max(magnitudes.score, terms * static_cast<double>(rule.scale));
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
  return magnitudes;
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
      PagedAttention attention({.heads = kHeads,
                                .kv_heads = kKvHeads,
                                .key_dim = kDim,
                                .value_dim = kDim,
                                .max_chunks = 64},
                               *kernels, threads);

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
          const Magnitudes magnitudes =
              Reference(test.rule, queries.data() + row * kDim, first + row / kHeads, row % kHeads,
                        keys, values, want);
          // Weighted means of values below 5 or so, from some tens of float32 roundings.
          const bool tiled = kernels->tiled_attention != nullptr && test.rule.softcap == 0 &&
                             tokens >= kernels->tiled_attention->least_tokens;
          const double bound = 2e-5 + (tiled ? magnitudes.TileError() : 0);
          for (int64_t d = 0; d < kDim; ++d)
            ASSERT_NEAR(static_cast<double>(out[static_cast<size_t>(row * kDim + d)]), want[d],
                        bound)
                << "row " << row;
        }
      }
    }
  }
}

/// Keys, values and queries of a sequence, which any cache and any chunks can be fed with.
struct Text {
  int64_t tokens;
  std::vector<float> keys, values;  ///< [tokens, kKvHeads, kDim]
  std::vector<float> queries;       ///< [tokens, kHeads, kDim]

  Text(int64_t count, uint32_t seed) : tokens(count) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    for (std::vector<float>* all : {&keys, &values, &queries}) {
      all->resize(static_cast<size_t>(count * (all == &queries ? kHeads : kKvHeads) * kDim));
      for (float& x : *all) x = normal(random);
    }
  }

  /// Attention's results for the sequence, computed in chunks.
  std::vector<float> Attend(const KernelSet& kernels, int threads, const AttentionRule& rule,
                            const std::vector<int64_t>& chunks) const {
    ModelConfig config;
    config.attention.heads = kHeads;
    config.attention.kv_heads = kKvHeads;
    config.attention.head_dim = kDim;
    config.layers.push_back({.window = rule.window});
    auto cache = *KvCache::Create(
        config, {.type = DType::kF32, .capacity_tokens = tokens, .max_chunk_tokens = tokens});
    const SequenceId sequence = *cache->CreateSequence();
    ThreadPool pool(threads);
    PagedAttention attention({.heads = kHeads,
                              .kv_heads = kKvHeads,
                              .key_dim = kDim,
                              .value_dim = kDim,
                              .max_chunks = 1},
                             kernels, pool);
    std::vector<float> out(queries.size());
    for (size_t i = 0, first = 0; first < static_cast<size_t>(tokens); ++i) {
      const int64_t at = static_cast<int64_t>(first);
      const int64_t count = std::min(chunks[i % chunks.size()], tokens - at);
      EXPECT_TRUE(cache->Reserve(sequence, count));
      std::vector<TokenPlace> places;
      for (int64_t t = at; t < at + count; ++t) {
        places.push_back({sequence, t});
        cache->Store(sequence, 0, t, keys.data() + t * kKvHeads * kDim,
                     values.data() + t * kKvHeads * kDim);
      }
      const BatchChunk chunk{sequence, 0, count, at};
      attention.Run(rule, 0, {{&chunk, 1}, places}, *cache, queries.data() + at * kHeads * kDim,
                    out.data() + at * kHeads * kDim);
      cache->Commit(sequence, count);
      first += static_cast<size_t>(count);
    }
    return out;
  }
};

/// The sets, and of those with tiles the twins without.
std::vector<const KernelSet*> UsableSetsAndTwins() {
  std::vector<const KernelSet*> sets;
  for (const KernelSet* set : AllKernelSets()) {
    if (!set->usable()) continue;
    sets.push_back(set);
    if (set->tiled_attention != nullptr) sets.push_back(&BatchInvariant(*set));
  }
  return sets;
}

// Long enough for several segments, of which decoding shares out more than it has room for.
TEST(PagedAttention, ThreadsAndChunksLeaveEveryBitOfLongContextsAlone) {
  const Text text(2300, 3);
  for (const KernelSet* kernels : UsableSetsAndTwins()) {
    const bool tiled = kernels->tiled_attention != nullptr;
    SCOPED_TRACE(std::string(kernels->name) + (tiled ? " with tiles" : ""));
    for (const int64_t window : {0, 300}) {
      const AttentionRule rule{.scale = 0.3f, .window = window};
      const std::vector<float> want = text.Attend(*kernels, 1, rule, {2300});
      // Chunks of fewer than 8 tokens have no tiles.
      const std::vector<std::vector<int64_t>> ragged =
          tiled ? std::vector<std::vector<int64_t>>{{1500, 8, 9, 300, 64}, {511, 8, 33}}
                : std::vector<std::vector<int64_t>>{{1500, 1, 7, 1, 300, 2}, {511, 1, 1}};
      for (const auto& chunks : ragged) {
        EXPECT_EQ(text.Attend(*kernels, 1, rule, chunks), want) << window;
        EXPECT_EQ(text.Attend(*kernels, 3, rule, chunks), want) << window;
      }
      for (const int64_t position : {0, 255, 256, 1000, 2299}) {
        std::vector<std::vector<float>> keys, values;
        const auto row = [](const std::vector<float>& all, int64_t p) {
          const auto first = all.begin() + p * kKvHeads * kDim;
          return std::vector<float>(first, first + kKvHeads * kDim);
        };
        for (int64_t p = 0; p <= position; ++p) {
          keys.push_back(row(text.keys, p));
          values.push_back(row(text.values, p));
        }
        for (int64_t head = 0; head < kHeads; ++head) {
          const int64_t at = (position * kHeads + head) * kDim;
          double exact[kDim];
          const Magnitudes magnitudes =
              Reference(rule, text.queries.data() + at, position, head, keys, values, exact);
          const double bound = 2e-5 + (tiled ? magnitudes.TileError() : 0);
          for (int64_t d = 0; d < kDim; ++d)
            EXPECT_NEAR(static_cast<double>(want[static_cast<size_t>(at + d)]), exact[d], bound);
        }
      }
    }
  }
}

}  // namespace
}  // namespace moxie
