#include "forward/adapters.h"

#include <algorithm>

#include "moxie/result.h"

namespace moxie {
namespace {

constexpr int64_t kMatricesAtOnce = 3;  // Queries, keys and values; gate and up.

/// What one layer of an adapter asks for.
struct Tally {
  int64_t max_rank = 0;
  size_t pairs = 0;
};

void Collect(const LoraPair& pair, LoraPairs& list, Tally& tally) {
  if (pair.empty()) return;
  list.push_back(&pair);
  tally.max_rank = std::max(tally.max_rank, pair.rank);
  ++tally.pairs;
}

void Collect(const FeedForwardAdapter& adapter, FeedForwardPairs& pairs, Tally& tally) {
  Collect(adapter.gate, pairs.gate, tally);
  Collect(adapter.up, pairs.up, tally);
  Collect(adapter.down, pairs.down, tally);
}

Tally Collect(const LayerAdapter& adapter, LayerPairs& pairs) {
  Tally tally;
  Collect(adapter.q, pairs.q, tally);
  Collect(adapter.k, pairs.k, tally);
  Collect(adapter.v, pairs.v, tally);
  Collect(adapter.output, pairs.output, tally);
  Collect(adapter.router, pairs.router, tally);
  Collect(adapter.dense, pairs.dense, tally);
  Collect(adapter.shared, pairs.shared, tally);
  if (pairs.experts.size() < adapter.experts.size()) pairs.experts.resize(adapter.experts.size());
  for (size_t e = 0; e < adapter.experts.size(); ++e)
    Collect(adapter.experts[e], pairs.experts[e], tally);
  return tally;
}

/// The most that any layer of an adapter asks for; `layers` receives the pairs.
Tally Collect(const AdapterWeights& adapter, std::vector<LayerPairs>& layers) {
  Tally most;
  for (size_t i = 0; i < layers.size(); ++i) {
    const Tally tally = Collect(adapter.layers[i], layers[i]);
    most.max_rank = std::max(most.max_rank, tally.max_rank);
    most.pairs = std::max(most.pairs, tally.pairs);
  }
  return most;
}

int64_t ReducedFloats(int64_t max_rows, int64_t rank_sum) {
  return kMatricesAtOnce * max_rows * rank_sum;
}

}  // namespace

int64_t AdapterTerms::BytesFor(std::span<const AdapterWeights* const> adapters, int64_t max_rows) {
  int64_t rank_sum = 0;
  for (const AdapterWeights* adapter : adapters) {
    std::vector<LayerPairs> layers(adapter->layers.size());
    rank_sum += Collect(*adapter, layers).max_rank;
  }
  return ReducedFloats(max_rows, rank_sum) * static_cast<int64_t>(sizeof(float));
}

AdapterTerms::AdapterTerms(std::span<const AdapterWeights* const> adapters, int64_t layers,
                           const KernelSet& kernels, ThreadPool& threads, int64_t max_rows)
    : kernels_(kernels), threads_(threads), layers_(static_cast<size_t>(layers)) {
  int64_t rank_sum = 0;
  size_t most_terms = 0;
  for (const AdapterWeights* adapter : adapters) {
    MOXIE_CHECK(adapter->layers.size() == layers_.size());
    const Tally most = Collect(*adapter, layers_);
    rank_sum += most.max_rank;
    most_terms += most.pairs;
  }
  terms_.reserve(most_terms);
  reduced_.resize(static_cast<size_t>(ReducedFloats(max_rows, rank_sum)));
}

void AdapterTerms::Clear() {
  terms_.clear();
  reduced_used_ = 0;
}

std::span<const LowRankTerm> AdapterTerms::Reduce(const LoraPairs& pairs, int64_t rows,
                                                  FunctionRef<const float*(int64_t row)> row) {
  const size_t first = terms_.size();
  for (const LoraPair* pair : pairs) {
    float* reduced = reduced_.data() + reduced_used_;
    reduced_used_ += static_cast<size_t>(rows * pair->rank);
    MOXIE_CHECK(reduced_used_ <= reduced_.size() && terms_.size() < terms_.capacity());
    ForEachToken(threads_, rows, [&](int64_t i) {
      MultiplyFloatRows(kernels_, pair->a.data(), pair->rank, pair->in, row(i), 1.0f,
                        reduced + i * pair->rank);
    });
    terms_.push_back(
        {.b = pair->b.data(), .reduced = reduced, .rank = pair->rank, .scale = pair->scale});
  }
  return std::span(terms_).subspan(first);
}

}  // namespace moxie
