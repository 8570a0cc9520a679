#include "forward/decoder.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "forward/rope.h"
#include "support/allocation_count.h"

namespace moxie {
namespace {

/// A random float32 model whose matrices it owns.
struct RandomModel {
  explicit RandomModel(ModelConfig c) : config(std::move(c)) {
    const int64_t q_dim = config.attention.heads * config.attention.head_dim;
    const int64_t kv_dim = config.attention.kv_heads * config.attention.head_dim;
    weights.embedding = Matrix(config.vocab_size, config.dim);
    weights.output = Matrix(config.vocab_size, config.dim);
    weights.output_norm = Scale();
    for (const LayerConfig& layer_config : config.layers) {
      LayerWeights& layer = weights.layers.emplace_back();
      layer.attention_norm = Scale();
      layer.ffn_norm = Scale();
      if (config.post_norms) {
        layer.post_attention_norm = Scale();
        layer.post_ffn_norm = Scale();
      }
      layer.attention.q = Matrix(q_dim, config.dim);
      layer.attention.k = Matrix(kv_dim, config.dim);
      layer.attention.v = Matrix(kv_dim, config.dim);
      layer.attention.output = Matrix(config.dim, q_dim);
      if (!layer_config.sparse) {
        layer.dense = FeedForward(config.ffn_dim);
        continue;
      }
      layer.router = Matrix(config.router.experts, config.dim);
      for (int64_t e = 0; e < config.router.experts; ++e)
        layer.experts.push_back(FeedForward(config.expert_ffn_dim));
    }
  }

  WeightMatrix Matrix(int64_t rows, int64_t cols) {
    std::normal_distribution<float> normal(0, 1.5f / std::sqrt(static_cast<float>(cols)));
    auto& values = storage.emplace_back(static_cast<size_t>(rows * cols));
    for (float& value : values) value = normal(random);
    return {.type = DType::kF32,
            .rows = rows,
            .cols = cols,
            .row_stride = cols * 4,
            .data = reinterpret_cast<const std::byte*>(values.data())};
  }

  std::vector<float> Scale() {
    std::uniform_real_distribution<float> uniform(0.5f, 1.5f);
    std::vector<float> scale(static_cast<size_t>(config.dim));
    for (float& value : scale) value = uniform(random);
    return scale;
  }

  FeedForwardWeights FeedForward(int64_t ffn) {
    FeedForwardWeights weights_of;
    weights_of.gate.matrix = Matrix(ffn, config.dim);
    weights_of.up.matrix = Matrix(ffn, config.dim);
    weights_of.down.matrix = Matrix(config.dim, ffn);
    return weights_of;
  }

  ModelConfig config;
  ModelWeights weights;
  std::vector<std::vector<float>> storage;
  std::mt19937 random{5};
};

ModelConfig SmallConfig(bool sparse) {
  ModelConfig config;
  config.dim = 24;
  config.vocab_size = 50;
  config.attention.heads = 4;
  config.attention.kv_heads = 2;
  config.attention.head_dim = 6;
  config.attention.score_scale = 0.4;
  config.rope.dims = 6;
  config.ffn_dim = config.expert_ffn_dim = 40;
  if (sparse) {
    config.router.experts = 5;
    config.router.used = 3;
  }
  for (int i = 0; i < 3; ++i) config.layers.push_back({.sparse = sparse});
  return config;
}

std::vector<float> Logits(const RandomModel& model, const KernelSet& kernels,
                          std::span<const int32_t> ids) {
  ThreadPool threads(2);
  auto store = MakeResidentExpertStore(model.weights);
  auto decoder = *Decoder::Create(model.config, model.weights, *store, kernels, threads, {});
  auto cache = *KvCache::Create(model.config, {.type = DType::kF32});
  std::vector<float> logits(ids.size() * static_cast<size_t>(model.config.vocab_size));
  const SequenceChunk chunk{*cache->CreateSequence(), ids, LogitRows::kAll};
  const auto done = decoder->Forward({&chunk, 1}, *cache, logits);
  EXPECT_TRUE(done) << done.error().message;
  return logits;
}

// ---- The twin: a decoder in float64 on whole sequences, as the papers write it. ----

using Vector = std::vector<double>;

Vector Multiply(const WeightMatrix& m, const Vector& x) {
  Vector y(static_cast<size_t>(m.rows));
  for (int64_t r = 0; r < m.rows; ++r) {
    const auto* row = reinterpret_cast<const float*>(m.row(r));
    for (size_t c = 0; c < x.size(); ++c)
      y[static_cast<size_t>(r)] += static_cast<double>(row[c]) * x[c];
  }
  return y;
}

Vector Norm(const Vector& x, const std::vector<float>& scale, double eps) {
  const double squares = std::inner_product(x.begin(), x.end(), x.begin(), 0.0);
  Vector y(x.size());
  for (size_t i = 0; i < x.size(); ++i)
    y[i] = x[i] / std::sqrt(squares / static_cast<double>(x.size()) + eps) *
           static_cast<double>(scale[i]);
  return y;
}

void Rotate(Vector& heads, size_t head_dim, size_t position, double base) {
  for (size_t head = 0; head < heads.size(); head += head_dim) {
    for (size_t i = 0; i < head_dim / 2; ++i) {
      const double angle =
          static_cast<double>(position) *
          std::pow(base, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim));
      double& a = heads[head + i];
      double& b = heads[head + i + head_dim / 2];
      const double x = a, y = b;
      a = x * std::cos(angle) - y * std::sin(angle);
      b = y * std::cos(angle) + x * std::sin(angle);
    }
  }
}

Vector TwinFeedForward(const ModelConfig& config, const FeedForwardWeights& w, const Vector& x) {
  Vector gate = Multiply(w.gate.matrix, x);
  const Vector up = Multiply(w.up.matrix, x);
  for (size_t i = 0; i < gate.size(); ++i) {
    const double g = gate[i];
    const double gelu = 0.5 * g * (1 + std::tanh(std::sqrt(2 / M_PI) * (g + 0.044715 * g * g * g)));
    gate[i] = (config.activation == Activation::kGelu ? gelu : g / (1 + std::exp(-g))) * up[i];
  }
  return Multiply(w.down.matrix, gate);
}

Vector TwinMixture(const ModelConfig& config, const LayerWeights& layer, const Vector& x) {
  const Vector logits = Multiply(layer.router, x);
  std::vector<size_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0u);
  std::ranges::stable_sort(order, [&](size_t a, size_t b) { return logits[a] > logits[b]; });
  double all = 0, chosen = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    all += std::exp(logits[order[i]]);
    if (i < static_cast<size_t>(config.router.used)) chosen += std::exp(logits[order[i]]);
  }
  Vector y(x.size());
  for (size_t i = 0; i < static_cast<size_t>(config.router.used); ++i) {
    const Vector expert = TwinFeedForward(config, layer.experts[order[i]], x);
    const double weight = std::exp(logits[order[i]]) / (config.router.renormalise ? chosen : all);
    for (size_t d = 0; d < y.size(); ++d) y[d] += weight * expert[d];
  }
  return y;
}

/// Attention of the last of `keys`' positions.
Vector TwinAttention(const AttentionConfig& a, const Vector& q, const std::vector<Vector>& keys,
                     const std::vector<Vector>& values) {
  Vector out(q.size());
  const auto dim = static_cast<size_t>(a.head_dim);
  for (size_t head = 0; head < static_cast<size_t>(a.heads); ++head) {
    const size_t kv = head / static_cast<size_t>(a.heads / a.kv_heads) * dim;
    Vector p;
    for (const Vector& key : keys) {
      double score =
          a.score_scale * std::inner_product(key.begin() + static_cast<int64_t>(kv),
                                             key.begin() + static_cast<int64_t>(kv + dim),
                                             q.begin() + static_cast<int64_t>(head * dim), 0.0);
      if (a.score_softcap > 0) score = a.score_softcap * std::tanh(score / a.score_softcap);
      p.push_back(std::exp(score));
    }
    const double sum = std::accumulate(p.begin(), p.end(), 0.0);
    for (size_t i = 0; i < p.size(); ++i) {
      for (size_t d = 0; d < dim; ++d) out[head * dim + d] += p[i] / sum * values[i][kv + d];
    }
  }
  return out;
}

Vector TwinLogits(const RandomModel& model, std::span<const int32_t> ids) {
  const ModelConfig& c = model.config;
  const auto head_dim = static_cast<size_t>(c.attention.head_dim);
  std::vector<Vector> stream;
  for (const int32_t id : ids) {
    const auto* row = reinterpret_cast<const float*>(model.weights.embedding.row(id));
    Vector& x = stream.emplace_back(row, row + c.dim);
    for (double& value : x) value *= c.embedding_scale;
  }
  for (const LayerWeights& layer : model.weights.layers) {
    std::vector<Vector> keys, values;
    for (size_t t = 0; t < stream.size(); ++t) {
      const auto add = [&](Vector update, const std::vector<float>& post_norm) {
        if (!post_norm.empty()) update = Norm(update, post_norm, c.norm_eps);
        for (size_t d = 0; d < update.size(); ++d) stream[t][d] += update[d];
      };
      Vector x = Norm(stream[t], layer.attention_norm, c.norm_eps);
      Vector q = Multiply(layer.attention.q, x);
      keys.push_back(Multiply(layer.attention.k, x));
      values.push_back(Multiply(layer.attention.v, x));
      Rotate(q, head_dim, t, c.rope.base);
      Rotate(keys.back(), head_dim, t, c.rope.base);
      add(Multiply(layer.attention.output, TwinAttention(c.attention, q, keys, values)),
          layer.post_attention_norm);
      x = Norm(stream[t], layer.ffn_norm, c.norm_eps);
      add(layer.experts.empty() ? TwinFeedForward(c, layer.dense, x) : TwinMixture(c, layer, x),
          layer.post_ffn_norm);
    }
  }
  Vector logits;
  for (const Vector& x : stream) {
    for (const double logit :
         Multiply(model.weights.output, Norm(x, model.weights.output_norm, c.norm_eps)))
      logits.push_back(logit * c.logit_scale);
  }
  return logits;
}

std::vector<int32_t> SomeIds() { return {3, 14, 15, 9, 2, 6, 5, 35, 8, 9, 7, 9, 3, 2, 38, 46}; }

void ExpectTwin(const ModelConfig& config) {
  const RandomModel model(config);
  const auto ids = SomeIds();
  const Vector want = TwinLogits(model, ids);
  double largest = 0;
  for (const double value : want) largest = std::max(largest, std::abs(value));
  for (const KernelSet* kernels : AllKernelSets()) {
    if (!kernels->usable()) continue;
    const auto got = Logits(model, *kernels, ids);
    for (size_t i = 0; i < want.size(); ++i)
      ASSERT_NEAR(static_cast<double>(got[i]), want[i], 1e-4 * largest)
          << kernels->name << " logit " << i;
  }
}

TEST(Decoder, DenseModelAgreesWithTheTwin) { ExpectTwin(SmallConfig(false)); }

TEST(Decoder, MixtureAgreesWithTheTwin) { ExpectTwin(SmallConfig(true)); }

// Grok-1's axes: embedding and logit multipliers, norms after both halves of a layer, a soft cap
// on scores, GELU, weights that are not renormalised.
TEST(Decoder, GroksAxesAgreeWithTheTwin) {
  ModelConfig config = SmallConfig(true);
  config.embedding_scale = 4.9;
  config.logit_scale = 0.577;
  config.post_norms = true;
  config.attention.score_softcap = 1.5;
  config.activation = Activation::kGelu;
  config.router.renormalise = false;
  ExpectTwin(config);
}

// Experts that are all the dense feed-forward give its output bit for bit, whatever the router
// says: the gate's weights sum to exactly 1, and float64 holds the sum's every bit.
TEST(Decoder, UpcycledModelGivesTheDenseModelsLogits) {
  const RandomModel dense(SmallConfig(false));
  for (const int64_t used : {1, 2, 4}) {
    RandomModel mixture(SmallConfig(true));
    mixture.config.router.used = used;
    for (size_t i = 0; i < mixture.weights.layers.size(); ++i) {
      LayerWeights& layer = mixture.weights.layers[i];
      const WeightMatrix router = layer.router;
      layer = dense.weights.layers[i];
      layer.router = router;
      layer.experts.assign(5, layer.dense);
      layer.dense = {};
    }
    mixture.weights.embedding = dense.weights.embedding;
    mixture.weights.output = dense.weights.output;
    mixture.weights.output_norm = dense.weights.output_norm;
    for (const KernelSet* kernels : AllKernelSets()) {
      if (!kernels->usable()) continue;
      EXPECT_EQ(Logits(mixture, *kernels, SomeIds()), Logits(dense, *kernels, SomeIds()))
          << kernels->name << ", " << used << " used";
    }
  }
}

TEST(Decoder, ForwardAllocatesNothing) {
  const RandomModel model(SmallConfig(true));
  ThreadPool threads(2);
  auto store = MakeResidentExpertStore(model.weights);
  auto decoder =
      *Decoder::Create(model.config, model.weights, *store, BestKernelSet(), threads, {});
  auto cache = *KvCache::Create(model.config, {.type = DType::kF16, .max_sequences = 2});
  const auto ids = SomeIds();
  std::vector<float> logits(ids.size() * static_cast<size_t>(model.config.vocab_size));
  const SequenceChunk chunks[] = {{*cache->CreateSequence(), ids, LogitRows::kAll},
                                  {*cache->CreateSequence(), ids, LogitRows::kNone}};
  const int64_t before = testing::AllocationCount();
  bool good = true;
  for (int i = 0; i < 5; ++i) good = good && decoder->Forward(chunks, *cache, logits).has_value();
  EXPECT_EQ(testing::AllocationCount() - before, 0);
  EXPECT_TRUE(good);
}

}  // namespace
}  // namespace moxie
