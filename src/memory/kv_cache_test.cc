#include "memory/kv_cache.h"

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <random>

#include "core/half.h"
#include "quant/dequantize.h"

namespace moxie {
namespace {

ModelConfig SmallModel(std::vector<int64_t> windows) {
  ModelConfig config;
  config.attention.heads = 4;
  config.attention.kv_heads = 2;
  config.attention.head_dim = 5;
  for (const int64_t window : windows) config.layers.push_back({.window = window});
  return config;
}

/// What a position of one sequence was filled with: distinct for every position and content.
std::vector<float> RowsOf(int64_t layer, int64_t position, int32_t content) {
  std::vector<float> rows(10);
  for (size_t i = 0; i < rows.size(); ++i)
    rows[i] = static_cast<float>(layer * 1000 + position * 10 + static_cast<int64_t>(i)) +
              static_cast<float>(content) / 1024;
  return rows;
}

/// A sequence's twin: its contents, kept in full.
struct Twin {
  std::vector<int32_t> contents;
};

void Append(KvCache& cache, SequenceId sequence, Twin& twin, int64_t tokens, int32_t content,
            int64_t layers) {
  ASSERT_TRUE(cache.Reserve(sequence, tokens));
  for (int64_t i = 0; i < tokens; ++i) {
    const int64_t position = std::ssize(twin.contents);
    for (int64_t layer = 0; layer < layers; ++layer) {
      const auto keys = RowsOf(layer, position, content);
      const auto values = RowsOf(layer, position, -content);
      cache.Store(sequence, layer, position, keys.data(), values.data());
    }
    twin.contents.push_back(content);
  }
  cache.Commit(sequence, tokens);
}

/// Every position that the next token can see holds what was stored there.
void ExpectContents(const KvCache& cache, SequenceId sequence, const Twin& twin,
                    const ModelConfig& config) {
  const int64_t length = std::ssize(twin.contents);
  ASSERT_EQ(cache.Length(sequence), length);
  for (size_t layer = 0; layer < config.layers.size(); ++layer) {
    const int64_t window = config.layers[layer].window;
    const int64_t first = window == 0 ? 0 : std::max<int64_t>(0, length - (window - 1));
    for (int64_t position = first; position < length; ++position) {
      const int32_t content = twin.contents[static_cast<size_t>(position)];
      const auto l = static_cast<int64_t>(layer);
      const auto keys = RowsOf(l, position, content), values = RowsOf(l, position, -content);
      for (int64_t head = 0; head < 2; ++head) {
        const auto rows = cache.Rows(sequence, l, position / cache.page_tokens(), head);
        const int64_t row = position % cache.page_tokens();
        ASSERT_EQ(std::memcmp(rows.keys + row * rows.key_stride, keys.data() + head * 5, 20), 0)
            << "layer " << layer << " position " << position;
        ASSERT_EQ(std::memcmp(rows.values + row * rows.value_stride, values.data() + head * 5, 20),
                  0);
      }
    }
  }
}

// Thousands of random steps on a cache and on plain copies of every sequence.
TEST(KvCache, RandomOperationsAgreeWithPlainCopies) {
  for (const auto& windows : std::vector<std::vector<int64_t>>{{0, 0}, {7, 0, 7}, {5, 9}, {1, 0}}) {
    const ModelConfig config = SmallModel(windows);
    const KvCache::Options options{.type = DType::kF32,
                                   .capacity_tokens = 120,
                                   .page_tokens = 4,
                                   .max_chunk_tokens = 11,
                                   .max_sequences = 5};
    auto cache = *KvCache::Create(config, options);
    const int64_t free_at_first = cache->FreeTokens();
    std::mt19937 random(11);
    std::map<SequenceId, Twin> twins;
    const auto any = [&] {
      auto it = twins.begin();
      std::advance(it, random() % twins.size());
      return it;
    };
    for (int step = 0; step < 4000; ++step) {
      const auto action = random() % 10;
      if (twins.empty() || action == 0) {
        if (auto created = cache->CreateSequence()) twins[*created] = {};
      } else if (action == 1) {
        const auto it = any();
        cache->FreeSequence(it->first);
        twins.erase(it);
      } else if (action <= 3) {
        const auto it = any();
        const int64_t length = std::ssize(it->second.contents);
        const int64_t tokens = length - static_cast<int64_t>(random() % 6);
        auto fork = cache->Fork(it->first, tokens);
        if (!fork) continue;
        Twin twin = it->second;
        twin.contents.resize(static_cast<size_t>(tokens));
        twins[*fork] = twin;
      } else if (action == 4) {
        const auto it = any();
        const int64_t tokens = std::ssize(it->second.contents) - static_cast<int64_t>(random() % 9);
        if (cache->Truncate(it->first, tokens))
          it->second.contents.resize(static_cast<size_t>(tokens));
      } else {
        const auto it = any();
        const int64_t tokens = 1 + static_cast<int64_t>(random() % 11);
        if (!cache->Reserve(it->first, tokens)) {
          EXPECT_EQ(cache->Length(it->first), std::ssize(it->second.contents));
        } else if (random() % 4 == 0) {
          cache->Rollback(it->first);
        } else {
          Append(*cache, it->first, it->second, tokens, step % 1024, std::ssize(config.layers));
        }
      }
      for (const auto& [sequence, twin] : twins)
        ASSERT_NO_FATAL_FAILURE(ExpectContents(*cache, sequence, twin, config)) << "step " << step;
    }
    for (const auto& [sequence, twin] : twins) cache->FreeSequence(sequence);
    EXPECT_EQ(cache->FreeTokens(), free_at_first);
  }
}

TEST(KvCache, AWindowHoldsItselfAndNoMore) {
  const ModelConfig config = SmallModel({4096, 4096});
  const KvCache::Options options{
      .type = DType::kF16, .capacity_tokens = 1 << 20, .page_tokens = 32, .max_chunk_tokens = 1};
  // 4096 positions end to end reach into 129 pages at most.
  const int64_t page_bytes = 2 * 2 * 2 * 32 * 5 * 2;  // layers, k and v, heads, tokens, dim, half
  EXPECT_LE(KvCache::BytesFor(config, options), 129 * page_bytes + 3000);
  EXPECT_GE(KvCache::BytesFor(config, options), 129 * page_bytes);
}

TEST(KvCache, ForkBehindTheWindowIsRefused) {
  const ModelConfig config = SmallModel({4, 0});
  auto cache = *KvCache::Create(config, {.type = DType::kF32, .page_tokens = 4});
  const SequenceId sequence = *cache->CreateSequence();
  Twin twin;
  for (int i = 0; i < 10; ++i) Append(*cache, sequence, twin, 3, i, 2);
  EXPECT_FALSE(cache->Truncate(sequence, 10));
  EXPECT_FALSE(cache->Truncate(sequence, 31));
  EXPECT_EQ(cache->Length(sequence), 30);
  EXPECT_TRUE(cache->Truncate(sequence, 29));
}

TEST(KvCache, HalfRowsAreRoundedAndLatentRowsShared) {
  ModelConfig config = SmallModel({0});
  config.attention.latent = {.kv_rank = 6, .rope_dim = 2, .value_dim = 3};
  auto cache = *KvCache::Create(config, {.type = DType::kF16, .page_tokens = 4});
  EXPECT_EQ(cache->kv_heads(), 1);
  EXPECT_EQ(cache->key_width(), 8);
  EXPECT_EQ(cache->value_width(), 6);
  const SequenceId sequence = *cache->CreateSequence();
  ASSERT_TRUE(cache->Reserve(sequence, 2));
  const float row[] = {1, 0.1f, -3, 1e-6f, 5, 6, 7, 65519};
  cache->Store(sequence, 0, 1, row, nullptr);
  const auto rows = cache->Rows(sequence, 0, 0, 0);
  EXPECT_EQ(rows.keys, rows.values);
  float decoded[8];
  Dequantize(DType::kF16, rows.keys + rows.key_stride, 8, decoded);
  for (size_t i = 0; i < 8; ++i) EXPECT_EQ(decoded[i], HalfToFloat(FloatToHalf(row[i])));
}

// 37 elements are one whole block of 32 and one filled up with zeros.
TEST(KvCache, ByteRowsArePaddedToWholeBlocks) {
  ModelConfig config = SmallModel({0});
  config.attention.head_dim = 37;
  auto cache = *KvCache::Create(config, {.type = DType::kQ8_0, .page_tokens = 4});
  EXPECT_EQ(cache->key_width(), 64);
  const SequenceId sequence = *cache->CreateSequence();
  ASSERT_TRUE(cache->Reserve(sequence, 3));
  std::mt19937 random(2);
  std::uniform_real_distribution<float> uniform(-2, 2);
  std::vector<float> keys(2 * 37), values(2 * 37);
  for (float& x : keys) x = uniform(random);
  for (float& x : values) x = uniform(random);
  cache->Store(sequence, 0, 2, keys.data(), values.data());
  for (size_t head = 0; head < 2; ++head) {
    const auto rows = cache->Rows(sequence, 0, 0, static_cast<int64_t>(head));
    float key[64], value[64];
    Dequantize(DType::kQ8_0, rows.keys + 2 * rows.key_stride, 64, key);
    Dequantize(DType::kQ8_0, rows.values + 2 * rows.value_stride, 64, value);
    for (size_t i = 0; i < 64; ++i) {  // Half a step of 2 / 127, and the half-precision scale.
      EXPECT_NEAR(key[i], i < 37 ? keys[head * 37 + i] : 0, 0.009f) << i;
      EXPECT_NEAR(value[i], i < 37 ? values[head * 37 + i] : 0, 0.009f) << i;
    }
  }
}

TEST(KvCache, ImpossibleOptionsAreErrors) {
  const ModelConfig config = SmallModel({0});
  const auto fails = [&](KvCache::Options options) { return !KvCache::Create(config, options); };
  EXPECT_TRUE(fails({.type = DType::kQ4_0}));
  EXPECT_TRUE(fails({.page_tokens = 0}));
  EXPECT_TRUE(fails({.capacity_tokens = int64_t{1} << 60}));
  EXPECT_TRUE(fails({.capacity_tokens = int64_t{1} << 46}));
  EXPECT_TRUE(fails({.max_sequences = 0}));
  EXPECT_EQ(KvCache::BytesFor(config, {.page_tokens = 0}), std::numeric_limits<int64_t>::max());
}

}  // namespace
}  // namespace moxie
