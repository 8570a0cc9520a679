#include "engine/speed_probe.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <map>
#include <utility>
#include <vector>

#include "engine/work_per_token.h"
#include "forward/pack_weights.h"
#include "memory/resident_weights.h"
#include "sampling/sampler.h"

namespace moxie {
namespace {

constexpr int64_t kWeightBytes = int64_t{256} << 20;  // That the layers' matrices share.
constexpr int64_t kHeadBytes = int64_t{32} << 20;
constexpr int64_t kEmbeddingStride = 64;
constexpr int64_t kPrefillOperations = int64_t{60'000'000'000};
constexpr int64_t kLeastPrefillTokens = 64;
constexpr int64_t kPackedBytes = int64_t{32} << 20;

/// How long and how often passes are repeated: at least both.
struct Patience {
  double seconds = 0;
  int passes = 1;
};
constexpr Patience kDecode{0.03, 3}, kPatientDecode{0.15, 5};
constexpr Patience kPrefill{0, 1}, kPatientPrefill{0.2, 3};

/// Layers of one kind take the same time.
using Kind = std::pair<bool, int64_t>;
Kind KindOf(const LayerConfig& layer) { return {layer.sparse, layer.window}; }

/// Part of a model, ready to run.
struct Stand {
  ModelConfig config;
  ModelWeights weights;
  std::vector<float> random;  ///< embedding and routers, so that tokens go to different experts
};

int64_t LastLevelCacheBytes() {
  const int64_t bytes = sysconf(_SC_LEVEL3_CACHE_SIZE);
  return bytes > 0 ? bytes : int64_t{32} << 20;
}

/// Layers to run: each kind, in turns, until a token reads `bytes` of weights.
std::vector<size_t> ChooseLayers(const ModelConfig& config, const ModelWeights& weights,
                                 int64_t bytes) {
  std::map<Kind, size_t> first;
  for (size_t i = 0; i < config.layers.size(); ++i) first.try_emplace(KindOf(config.layers[i]), i);
  const int64_t head = weights.output.empty() ? 0 : weights.output.bytes();
  const int64_t a_layer = std::max<int64_t>(
      1, (WorkPerToken(config, weights).TotalBytes() - head) / std::ssize(config.layers));
  std::vector<size_t> chosen;
  for (int64_t taken = 0; taken < bytes || chosen.size() < first.size();) {
    for (const auto& [kind, layer] : first) chosen.push_back(layer);
    taken += a_layer * std::ssize(first);
    if (chosen.size() >= config.layers.size()) break;
  }
  return chosen;
}

void FillRandom(std::vector<float>& out) {
  uint64_t state = 0x9e3779b97f4a7c15u;
  for (float& value : out) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    value = static_cast<float>(static_cast<int32_t>(state >> 32)) * 0x1p-31F;
  }
}

/// Bytes that differ and are small normal numbers in every type: processors multiply zeros faster,
/// by a tenth, for their clock depends on the work, and subnormal ones slower.
void FillWeights(const PageBuffer& memory) {
  uint64_t state = 1;
  for (int64_t i = 0; i < memory.size(); i += int64_t{sizeof(state)}) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    const uint64_t bytes = ((state ^ (state >> 29)) & 0x0f0f0f0f0f0f0f0fu) | 0x2020202020202020u;
    std::memcpy(memory.data() + i, &bytes, sizeof(bytes));
  }
}

/// Points every matrix at bytes that they share, one after another and around again, as if packed
/// for the kernels.
Result<void> PlaceMatrices(Stand& stand, const KernelSet& kernels, PageBuffer& memory) {
  int64_t all = 0, largest = 0;
  const auto visit_all = [&](FunctionRef<void(WeightMatrix&)> visit) {
    ForEachMatrix(stand.weights, ResidentPart::kAll, visit);
  };
  visit_all([&](WeightMatrix& matrix) {
    all += RoundUpToPage(matrix.bytes());
    largest = std::max(largest, RoundUpToPage(matrix.bytes()));
  });
  const int64_t bytes = std::min(all, std::max(largest, kWeightBytes));
  if (memory.size() < bytes) {
    memory = {};
    MOXIE_TRY_ASSIGN(memory, PageBuffer::Create(bytes, "measuring speed"));
    FillWeights(memory);
  }
  int64_t at = 0;
  visit_all([&](WeightMatrix& matrix) {
    const int64_t size = RoundUpToPage(matrix.bytes());
    if (at + size > bytes) at = 0;
    matrix.data = memory.data() + at;
    matrix.packed_rows = PackedRowsFor(kernels, matrix);
    at += size;
  });
  return {};
}

/// Rows that kernels pack come out even.
int64_t HeadRows(int64_t row_bytes) {
  constexpr int64_t kEven = 64;
  return std::max(kHeadBytes / row_bytes / kEven, int64_t{1}) * kEven;
}

/// The chosen layers, and of their experts the first so many.
Result<Stand> MakeStand(const ModelConfig& config, const ModelWeights& weights,
                        const std::vector<size_t>& layers, int64_t experts, bool streamed,
                        const KernelSet& kernels, PageBuffer& memory) {
  Stand stand;
  ModelConfig& c = stand.config = config;
  ModelWeights& w = stand.weights;
  c.layers.clear();
  c.tied_embeddings = false;
  c.router.experts = experts;
  w.output = weights.output;
  w.output.rows = c.vocab_size = std::min(w.output.rows, HeadRows(w.output.row_stride));
  w.output_norm.assign(static_cast<size_t>(c.dim), 1);
  for (const size_t i : layers) {
    c.layers.push_back(config.layers[i]);
    LayerWeights& layer = w.layers.emplace_back(weights.layers[i]);
    layer.attention_norm.assign(static_cast<size_t>(c.dim), 1);
    layer.ffn_norm.assign(static_cast<size_t>(c.dim), 1);
    if (layer.experts.empty()) continue;
    layer.experts.resize(static_cast<size_t>(experts));
    layer.router = {DType::kF32, experts, c.dim, c.dim * int64_t{sizeof(float)}, nullptr};
    if (!layer.router_bias.empty()) layer.router_bias.resize(static_cast<size_t>(experts));
    if (!layer.router_selection_bias.empty())
      layer.router_selection_bias.resize(static_cast<size_t>(experts));
  }
  MOXIE_TRY(PlaceMatrices(stand, kernels, memory));
  // What is read by rows as well stays as it is, and so do experts that come from files.
  for (LayerWeights& layer : w.layers) {
    layer.attention.kv_b.packed_rows = 0;
    for (FeedForwardWeights& expert : layer.experts) {
      for (StoredMatrix* stored : {&expert.gate, &expert.up, &expert.down})
        if (streamed) stored->matrix.packed_rows = 0;
    }
  }
  // The embedding's rows overlap, which makes them different enough.
  const int64_t embedding = c.dim + c.vocab_size * kEmbeddingStride / int64_t{sizeof(float)};
  stand.random.resize(static_cast<size_t>(embedding + experts * c.dim));
  FillRandom(stand.random);
  const auto* const random = reinterpret_cast<const std::byte*>(stand.random.data());
  w.embedding = {DType::kF32, c.vocab_size, c.dim, kEmbeddingStride, random};
  for (LayerWeights& layer : w.layers) {
    if (!layer.experts.empty())
      layer.router.data = random + embedding * static_cast<int64_t>(sizeof(float));
  }
  return stand;
}

/// One pass's time, as the whole model would take it.
TokenSeconds Extrapolate(const Profile& profile, const Stand& stand, const ModelConfig& config) {
  struct Sum {
    double layer = 0, attention = 0, experts = 0;
    int64_t count = 0;
  };
  std::map<Kind, Sum> kinds;
  double pass = 0, layers = 0, head = 0;
  for (const Profile::Span& span : profile.spans()) {
    const double seconds = static_cast<double>(span.end_ns - span.begin_ns) * 1e-9;
    if (span.part == Part::kPass) pass += seconds;
    if (span.part == Part::kHead) head += seconds;
    if (span.layer < 0) continue;
    Sum& sum = kinds[KindOf(stand.config.layers[static_cast<size_t>(span.layer)])];
    if (span.part == Part::kAttention) sum.attention += seconds;
    if (span.part == Part::kExperts) sum.experts += seconds;
    if (span.part != Part::kLayer) continue;
    layers += seconds;
    sum.layer += seconds;
    ++sum.count;
  }
  TokenSeconds out;
  out.head =
      head * static_cast<double>(config.vocab_size) / static_cast<double>(stand.config.vocab_size);
  out.rest = std::max(0.0, pass - layers - head);
  for (const LayerConfig& layer : config.layers) {
    const Sum& sum = kinds[KindOf(layer)];
    out.experts += sum.experts / static_cast<double>(sum.count);
    out.attention += sum.attention / static_cast<double>(sum.count);
    out.rest += (sum.layer - sum.attention - sum.experts) / static_cast<double>(sum.count);
  }
  return out;
}

/// A sequence that is `tokens` long without having been computed: keys and values of 0.
Result<SequenceId> MakeSequence(KvCache& cache, int64_t tokens, int64_t layers) {
  MOXIE_TRY_ASSIGN(const SequenceId sequence, cache.CreateSequence());
  if (tokens == 0) return sequence;
  MOXIE_TRY(cache.Reserve(sequence, tokens));
  const int64_t width = cache.kv_heads() * std::max(cache.key_width(), cache.value_width());
  const std::vector<float> zeros(static_cast<size_t>(width));
  for (int64_t layer = 0; layer < layers; ++layer) {
    for (int64_t position = 0; position < tokens; ++position)
      cache.Store(sequence, layer, position, zeros.data(), zeros.data());
  }
  cache.Commit(sequence, tokens);
  return sequence;
}

struct Passes {
  int64_t tokens = 1;    ///< of each
  int64_t position = 0;  ///< of the first token of the first
  Patience patience;
};

/// The median pass.
Result<TokenSeconds> Run(Stand& stand, const ModelConfig& config, const Passes& passes,
                         const RunSizes& sizes, const KernelSet& kernels, ThreadPool& threads) {
  constexpr int kMost = 64;
  const int64_t room = passes.position + passes.tokens * (kMost + 1);
  KvCache::Options cache_options = sizes.cache;
  cache_options.capacity_tokens = room;
  cache_options.max_sequences = 1;
  cache_options.max_chunk_tokens = std::max(passes.tokens, passes.position);
  MOXIE_TRY_ASSIGN(const auto cache, KvCache::Create(stand.config, cache_options));
  const auto experts = MakeResidentExpertStore(stand.weights);
  MOXIE_TRY_ASSIGN(const auto decoder,
                   Decoder::Create(stand.config, stand.weights, *experts, kernels, threads,
                                   {.max_tokens = passes.tokens, .max_logit_rows = 1}));
  const int64_t layers = std::ssize(stand.config.layers);
  MOXIE_TRY_ASSIGN(SequenceId sequence, MakeSequence(*cache, passes.position, layers));
  std::vector<int32_t> ids(static_cast<size_t>(passes.tokens));
  std::vector<float> logits(static_cast<size_t>(stand.config.vocab_size));
  std::vector<TokenSeconds> done;
  uint64_t state = 1;
  double sum = 0;
  for (int pass = 0;
       pass < kMost && (pass <= passes.patience.passes || sum < passes.patience.seconds); ++pass) {
    for (int32_t& id : ids) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      id = static_cast<int32_t>((state >> 33) % static_cast<uint64_t>(stand.config.vocab_size));
    }
    if (pass > 0 && passes.tokens > 1) {
      cache->FreeSequence(sequence);
      MOXIE_TRY_ASSIGN(sequence, MakeSequence(*cache, passes.position, layers));
    }
    Profile profile;
    const SequenceChunk chunk{.sequence = sequence,
                              .tokens = std::span(ids).first(pass == 0 ? 1 : ids.size())};
    MOXIE_TRY(decoder->Forward({&chunk, 1}, *cache, logits, {.profile = &profile}));
    if (pass == 0) continue;  // It warms up.
    done.push_back(Extrapolate(profile, stand, config));
    sum += static_cast<double>(profile.Now()) * 1e-9;
  }
  std::ranges::sort(done, {}, &TokenSeconds::total);
  return done[done.size() / 2];
}

/// What choosing the most probable token takes.
Result<double> ProbeSampling(int64_t vocab_size) {
  std::vector<float> logits(static_cast<size_t>(vocab_size));
  FillRandom(logits);
  SamplingOptions greedy;
  greedy.temperature = 0;
  MOXIE_TRY_ASSIGN(Sampler sampler, Sampler::Create(greedy, static_cast<int32_t>(vocab_size), {}));
  MOXIE_TRY(sampler.Sample(logits));
  const auto start = std::chrono::steady_clock::now();
  MOXIE_TRY(sampler.Sample(logits));
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// Packs as much of `memory` as there is at most of each type, and works out the whole.
void ProbePacking(const ModelWeights& weights, const KernelSet& kernels, ThreadPool& threads,
                  const PageBuffer& memory, ProbedSpeeds& out) {
  std::map<DType, double> rates;  // Bytes a second.
  const auto seconds = [&](const WeightMatrix& matrix) {
    const int32_t rows = PackedRowsFor(kernels, matrix);
    if (rows == 0) return 0.0;
    double& rate = rates[matrix.type];
    if (rate == 0) {
      RowPacker packer(kernels, threads);
      const int64_t bytes = std::min(kPackedBytes, memory.size());
      const int64_t groups = std::max<int64_t>(bytes / (rows * matrix.row_stride), 1);
      if (groups * rows * matrix.row_stride > memory.size()) return 0.0;
      const auto start = std::chrono::steady_clock::now();
      packer.Pack(matrix, rows, memory.data(), groups);
      const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
      rate = static_cast<double>(groups * rows * matrix.row_stride) / taken.count();
    }
    return static_cast<double>(matrix.bytes()) / rate;
  };
  for (const LayerWeights& layer : weights.layers) {
    const AttentionWeights& a = layer.attention;
    for (const WeightMatrix* matrix : {&a.q, &a.k, &a.v, &a.output, &a.q_a, &a.kv_a})
      out.pack_others_s += seconds(*matrix);
    for (const FeedForwardWeights* ffn : {&layer.dense, &layer.shared}) {
      for (const StoredMatrix* stored : {&ffn->gate, &ffn->up, &ffn->down})
        out.pack_others_s += seconds(stored->matrix);
    }
    for (const FeedForwardWeights& expert : layer.experts) {
      for (const StoredMatrix* stored : {&expert.gate, &expert.up, &expert.down})
        out.pack_experts_s += seconds(stored->matrix);
    }
  }
  out.pack_others_s += seconds(weights.output);
}

}  // namespace

Result<ProbedSpeeds> ProbeSpeeds(const ModelConfig& config, const ModelWeights& weights,
                                 const ModelOptions& options, const RunSizes& sizes,
                                 const KernelSet& kernels, ThreadPool& threads,
                                 const ProbeOptions& probe, PageBuffer& memory) {
  const int64_t prompt_tokens = probe.prompt_tokens;
  ProbedSpeeds out;
  {
    const auto layers = ChooseLayers(config, weights, 4 * LastLevelCacheBytes());
    MOXIE_TRY_ASSIGN(Stand stand, MakeStand(config, weights, layers, config.router.experts,
                                            probe.streamed, kernels, memory));
    const Passes passes{.position = prompt_tokens,
                        .patience = probe.patient ? kPatientDecode : kDecode};
    MOXIE_TRY_ASSIGN(out.decode, Run(stand, config, passes, sizes, kernels, threads));
    MOXIE_TRY_ASSIGN(out.decode.sampling, ProbeSampling(config.vocab_size));
  }
  if (options.pack_weights) ProbePacking(weights, kernels, threads, memory, out);
  const auto layers = ChooseLayers(config, weights, 0);
  int64_t operations = 1;
  for (const auto& [type, products] : WorkPerToken(config, weights).layers)
    operations += products.operations;
  operations = operations * std::ssize(layers) / std::ssize(config.layers) + 1;
  const int64_t batch = std::min(options.batch_tokens, prompt_tokens);
  const int64_t tokens =
      std::min(batch, std::max(kLeastPrefillTokens, kPrefillOperations / operations));
  // As many tokens an expert as in a whole batch.
  const int64_t experts =
      config.router.groups > 1
          ? config.router.experts
          : std::max(config.router.used, config.router.experts * tokens / batch);
  MOXIE_TRY_ASSIGN(Stand stand,
                   MakeStand(config, weights, layers, experts, probe.streamed, kernels, memory));
  const Passes passes{.tokens = tokens,
                      .position = (prompt_tokens - tokens) / 2,
                      .patience = probe.patient ? kPatientPrefill : kPrefill};
  MOXIE_TRY_ASSIGN(const TokenSeconds pass, Run(stand, config, passes, sizes, kernels, threads));
  const auto share = [](double seconds, int64_t count) {
    return seconds / static_cast<double>(count);
  };
  out.prefill = {.attention = share(pass.attention, tokens),
                 .experts = share(pass.experts, tokens),
                 .head = share(pass.head, prompt_tokens),
                 .rest = share(pass.rest, tokens),
                 .sampling = share(out.decode.sampling, prompt_tokens)};
  return out;
}

}  // namespace moxie
