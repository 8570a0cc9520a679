// What must not change a model's results: threads, chunks, what else is in the batch, rolling
// pages; and what may change them only a little: the cache's type.
#include <gtest/gtest.h>

#include <map>
#include <random>

#include "moxie/routing.h"
#include "support/golden.h"

namespace moxie {
namespace {

using namespace moxie::testing;

class Invariance : public ::testing::TestWithParam<std::filesystem::path> {
 protected:
  void SetUp() override {
    auto loaded = LoadModel(GetParam());
    ASSERT_TRUE(loaded) << loaded.error().message;
    model_ = std::move(*loaded);
  }

  std::vector<int32_t> RandomIds(size_t count, uint32_t seed) const {
    std::mt19937 random(seed);
    std::vector<int32_t> ids(count);
    for (int32_t& id : ids)
      id = static_cast<int32_t>(random() % static_cast<uint32_t>(model_->config.vocab_size));
    return ids;
  }

  std::unique_ptr<LoadedModel> model_;
};

const KernelSet& Best() { return BatchInvariant(BestKernelSet()); }

constexpr size_t kWhole[] = {128};
constexpr size_t kSingly[] = {1};
constexpr size_t kRagged[] = {3, 1, 17, 2, 31, 5, 1, 1, 23};

TEST_P(Invariance, ThreadsAndChunksLeaveEveryBitAlone) {
  for (const KernelSet* kernels : {FindKernelSet("scalar"), &Best()}) {
    SCOPED_TRACE(kernels->name);
    const auto ids = RandomIds(90, 1);
    Runner one(*model_, {.kernels = kernels, .threads = 1});
    const auto want = one.RunInChunks(ids, kWhole);
    EXPECT_EQ(one.RunInChunks(ids, kSingly), want);
    EXPECT_EQ(one.RunInChunks(ids, kRagged), want);
    for (const int threads : {2, 3}) {
      Runner more(*model_, {.kernels = kernels, .threads = threads});
      EXPECT_EQ(more.RunInChunks(ids, kWhole), want) << threads << " threads";
      EXPECT_EQ(more.RunInChunks(ids, kRagged), want) << threads << " threads";
    }
  }
}

TEST_P(Invariance, OthersInTheBatchLeaveEveryBitAlone) {
  Runner runner(*model_, {.kernels = &Best()});
  const std::vector<std::vector<int32_t>> texts = {RandomIds(40, 2), RandomIds(1, 3),
                                                   RandomIds(29, 4)};
  std::vector<std::vector<float>> alone;
  for (const auto& text : texts) alone.push_back(runner.RunInChunks(text, kWhole));

  // Each text in two chunks, the second ones as decode steps and prefill mixed.
  std::vector<SequenceChunk> first, second;
  for (const auto& text : texts) {
    const size_t half = text.size() - (text.size() > 30 ? 1 : text.size() / 2);
    const SequenceId sequence = runner.NewSequence();
    first.push_back({sequence, std::span(text).first(half), LogitRows::kNone});
    if (half < text.size())
      second.push_back({sequence, std::span(text).subspan(half), LogitRows::kLast});
  }
  first[1].logits = LogitRows::kLast;
  const auto vocab = static_cast<size_t>(runner.vocab);
  std::vector<float> logits(vocab);
  ASSERT_TRUE(runner.decoder->Forward(first, *runner.cache, logits));
  EXPECT_TRUE(std::ranges::equal(logits, alone[1]));
  logits.resize(2 * vocab);
  ASSERT_TRUE(runner.decoder->Forward(second, *runner.cache, logits));
  EXPECT_TRUE(std::ranges::equal(std::span(logits).first(vocab), std::span(alone[0]).last(vocab)));
  EXPECT_TRUE(std::ranges::equal(std::span(logits).last(vocab), std::span(alone[2]).last(vocab)));
}

// Where chunks may change results, threads and where experts lie do not, and no cut is far off.
TEST_P(Invariance, OtherThreadsAndStreamingLeaveEveryBitOfFastKernelsAlone) {
  const KernelSet& fast = BestKernelSet();
  if (&fast == &Best()) return;  // The same tests as above.
  const auto ids = RandomIds(90, 1);
  Runner one(*model_, {.kernels = &fast, .threads = 1});
  const auto want = one.RunInChunks(ids, kWhole);
  Runner more(*model_, {.kernels = &fast, .threads = 3});
  EXPECT_EQ(more.RunInChunks(ids, kWhole), want);
  EXPECT_EQ(more.RunInChunks(ids, kRagged), one.RunInChunks(ids, kRagged));
  if (StreamedExperts(model_->weights) == 0) return;
  Runner streamed(*model_, {.kernels = &fast, .expert_slots = kLeastExpertSlots});
  EXPECT_EQ(streamed.RunInChunks(ids, kWhole), want);
}

TEST_P(Invariance, StreamingExpertsLeavesEveryBitAlone) {
  if (StreamedExperts(model_->weights) == 0) return;  // Dense, or rearranged while loading.
  const auto ids = RandomIds(60, 9);
  Runner resident(*model_, {.kernels = &Best()});
  const auto want = resident.RunInChunks(ids, kWhole);
  for (const int64_t slots : {kLeastExpertSlots, int64_t{3}, StreamedExperts(model_->weights)}) {
    SCOPED_TRACE(slots);
    Runner streamed(*model_, {.kernels = &Best(), .expert_slots = slots});
    EXPECT_EQ(streamed.RunInChunks(ids, kWhole), want);
    const ExpertTraffic wave = streamed.store->traffic();
    EXPECT_LE(wave.misses, StreamedExperts(model_->weights)) << "a pass reads an expert once";
    EXPECT_EQ(wave.hits, 0);
    EXPECT_EQ(streamed.RunInChunks(ids, kSingly), want);
    EXPECT_EQ(streamed.RunInChunks(ids, kRagged), want);
    const ExpertTraffic all = streamed.store->traffic();
    EXPECT_GT(all.bytes_read, 0);
    EXPECT_LE(all.bytes_read, all.misses * ExpertSlotBytes(model_->weights));
    if (slots == StreamedExperts(model_->weights)) {
      EXPECT_LE(all.misses, slots);
    }
  }
}

/// The routing of single steps.
class StepRecorder final : public RoutingObserver {
 public:
  explicit StepRecorder(const ModelConfig& config) {
    trace.experts = config.router.experts;
    trace.experts_per_token = config.router.used;
    for (size_t layer = 0; layer < config.layers.size(); ++layer) {
      if (!config.layers[layer].sparse) continue;
      layer_index.emplace(layer, trace.layers.size());
      trace.layers.emplace_back();
    }
  }
  void OnRouting(int64_t layer, std::span<const float>, std::span<const int32_t> ids,
                 std::span<const float>) override {
    const size_t index = layer_index.at(static_cast<size_t>(layer));
    if (index == 0) ++trace.tokens;
    auto& experts = trace.layers[index].experts;
    experts.insert(experts.end(), ids.begin(), ids.end());
  }
  RoutingTrace trace;
  std::map<size_t, size_t> layer_index;
};

TEST_P(Invariance, TheStoreFindsWhatItsReplayFinds) {
  const ModelConfig& config = model_->config;
  const bool all_layers =
      std::ranges::all_of(config.layers, [](const LayerConfig& layer) { return layer.sparse; });
  if (StreamedExperts(model_->weights) == 0 || !all_layers) return;
  const int64_t slots = StreamedExperts(model_->weights) / 2;
  if (slots < config.router.used) return;
  Runner streamed(*model_, {.kernels = &Best(), .expert_slots = slots});
  StepRecorder recorder(config);
  const SequenceId sequence = streamed.NewSequence();
  for (const int32_t id : RandomIds(200, 12))
    streamed.Run(sequence, {&id, 1}, {.routing = &recorder});
  const ExpertTraffic traffic = streamed.store->traffic();
  const double rate = ReplayRouting(recorder.trace, slots)[0].hit_rate;
  EXPECT_DOUBLE_EQ(static_cast<double>(traffic.hits),
                   rate * static_cast<double>(traffic.hits + traffic.misses));
  EXPECT_GT(traffic.hits, 0);
}

TEST_P(Invariance, ForkedAndTruncatedSequencesContinueAsIfAlone) {
  const auto ids = RandomIds(70, 5);
  Runner runner(*model_, {.page_tokens = 16});
  const auto vocab = static_cast<size_t>(runner.vocab);
  const auto want = runner.RunInChunks(ids, kWhole);
  const SequenceId first = runner.NewSequence();
  runner.Run(first, std::span(ids).first(41));
  const auto fork = runner.cache->Fork(first, 41);
  ASSERT_TRUE(fork) << fork.error().message;
  runner.Run(first, RandomIds(9, 6));  // Writes into what was a shared page.
  const auto rest = runner.Run(*fork, std::span(ids).subspan(41, 20));
  EXPECT_TRUE(std::ranges::equal(rest, std::span(want).subspan(41 * vocab, 20 * vocab)));
  ASSERT_TRUE(runner.cache->Truncate(*fork, 58));
  const auto again = runner.Run(*fork, std::span(ids).subspan(58));
  EXPECT_TRUE(std::ranges::equal(again, std::span(want).subspan(58 * vocab)));
}

// A rolling buffer far past the window against a cache that keeps everything and masks.
TEST_P(Invariance, RollingPagesGiveWhatAMaskGives) {
  ModelConfig masked = model_->config;
  bool windowed = false;
  for (LayerConfig& layer : masked.layers) windowed = windowed || layer.window > 0;
  if (!windowed) return;  // Nothing rolls.
  const auto ids = RandomIds(100, 7);
  Runner rolling(*model_, {.page_tokens = 4, .sequences = 1});
  Runner full(*model_, {.page_tokens = 4, .sequences = 1});
  // The cache takes every layer for a full one; the decoder still masks by the window.
  for (LayerConfig& layer : masked.layers) layer.window = 0;
  full.cache = *KvCache::Create(
      masked,
      {.type = DType::kF32, .capacity_tokens = 1024, .page_tokens = 4, .max_chunk_tokens = 128});
  EXPECT_EQ(full.RunInChunks(ids, kWhole), rolling.RunInChunks(ids, kRagged));
}

/// The lower quartile over tokens of the greatest difference of their logits: a rounded key can tip
/// a near tie of two experts, which moves that token, and those that see it, a long way.
float QuartileDistance(std::span<const float> a, std::span<const float> b, size_t vocab) {
  std::vector<float> distances;
  for (size_t at = 0; at < a.size(); at += vocab)
    distances.push_back(Distance(a.subspan(at, vocab), b.subspan(at, vocab)));
  std::ranges::sort(distances);
  return distances[distances.size() / 4];
}

TEST_P(Invariance, ShorterCacheTypesAreClose) {
  const auto ids = RandomIds(60, 8);
  Runner exact(*model_, {});
  const auto vocab = static_cast<size_t>(exact.vocab);
  const auto want = exact.RunInChunks(ids, kWhole);
  Runner half(*model_, {.cache = DType::kF16});
  EXPECT_LE(QuartileDistance(half.RunInChunks(ids, kRagged), want, vocab), 2e-3f * Largest(want));
  Runner bytes(*model_, {.cache = DType::kQ8_0});
  EXPECT_LE(QuartileDistance(bytes.RunInChunks(ids, kRagged), want, vocab), 1e-1f * Largest(want));
  EXPECT_EQ(bytes.RunInChunks(ids, kRagged), bytes.RunInChunks(ids, kWhole));
}

TEST_P(Invariance, ErrorsLeaveLengthsAlone) {
  Runner runner(*model_, {.page_tokens = 4, .capacity_tokens = 16});
  const auto vocab = static_cast<size_t>(runner.vocab);
  std::vector<float> logits(4 * vocab);
  const SequenceId a = runner.NewSequence(), b = runner.NewSequence();
  const auto ids = RandomIds(5, 9);
  const std::vector<int32_t> unknown = {static_cast<int32_t>(vocab)};
  const auto fails = [&](std::vector<SequenceChunk> chunks) {
    return !runner.decoder->Forward(chunks, *runner.cache, logits);
  };
  EXPECT_TRUE(fails({{a, ids, LogitRows::kLast}, {b, unknown, LogitRows::kLast}}));
  EXPECT_TRUE(fails({{a, ids, LogitRows::kLast}, {a, ids, LogitRows::kLast}}));
  EXPECT_TRUE(fails({{a, ids, LogitRows::kAll}}));
  EXPECT_TRUE(fails({{a, {}, LogitRows::kNone}}));
  EXPECT_EQ(runner.cache->Length(a), 0);
  EXPECT_FALSE(fails({{a, ids, LogitRows::kLast}, {b, ids, LogitRows::kLast}}));
  EXPECT_EQ(runner.cache->Length(b), 5);
  if (runner.cache->FreeTokens() > 1024) return;  // Windows only: pages never run out.
  const auto more = RandomIds(4, 10);
  EXPECT_TRUE(fails({{a, more, LogitRows::kNone}, {b, more, LogitRows::kNone}}));
  EXPECT_EQ(runner.cache->Length(a), 5);
  EXPECT_EQ(runner.cache->Length(b), 5);
}

INSTANTIATE_TEST_SUITE_P(Models, Invariance, ::testing::ValuesIn(GoldenModelFolders()),
                         [](const auto& test) { return FolderTestName(test.param); });

}  // namespace
}  // namespace moxie
