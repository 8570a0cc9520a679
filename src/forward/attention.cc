#include "forward/attention.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

namespace moxie {
namespace {

constexpr int64_t kSegmentTokens = 256;
constexpr int64_t kRowsPerTile = 48;  // They pass over a page while it is in the nearest cache.
constexpr int64_t kMaxRowsPerTile = std::max(kRowsPerTile, AttentionTile::kMaxCount);
constexpr int64_t kMaxHeadsPerTile = 16;
constexpr int64_t kPageRowsAtOnce = 64;
constexpr int64_t kTilesPerThread = 4;  // From so many on, tiles alone keep the threads busy.
constexpr int64_t kStatesPerThread = 16;
constexpr float kNothing = -std::numeric_limits<float>::infinity();

int64_t CeilDivide(int64_t a, int64_t b) { return (a + b - 1) / b; }

size_t Size(int64_t n) { return static_cast<size_t>(n); }

/// The greatest of `start` and x[0 .. n).
float Greatest(float start, const float* x, int64_t n) {
  constexpr int64_t kLanes = 8;
  float lanes[kLanes];
  std::fill_n(lanes, kLanes, start);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane)
      lanes[lane] = x[i + lane] > lanes[lane] ? x[i + lane] : lanes[lane];
  }
  for (; i < n; ++i) lanes[0] = std::max(lanes[0], x[i]);
  return *std::max_element(lanes, lanes + kLanes);
}

}  // namespace

/// Some queries of one chunk and some heads that share a key head.
struct PagedAttention::Tile {
  SequenceId sequence = 0;
  int64_t first_token = 0, tokens = 0;  // In the batch.
  int64_t first_position = 0;
  int64_t kv_head = 0;
  int64_t first_head = 0, heads = 0;
  int64_t first_segment = 0, end_segment = 0;  // Those that any of the queries sees.
  bool at_once = false;                        // A segment is one step (TiledAttention).

  int64_t rows() const { return tokens * heads; }
};

/// The arguments of Run.
struct PagedAttention::Call {
  const AttentionRule& rule;
  int64_t layer;
  const Batch& batch;
  const KvCache& cache;
  const float* queries;
  float* out;

  int64_t pages_per_segment() const {
    return std::max<int64_t>(1, kSegmentTokens / cache.page_tokens());
  }
  int64_t segment_tokens() const { return pages_per_segment() * cache.page_tokens(); }
  int64_t FirstSeen(int64_t position) const {
    return rule.window == 0 ? 0 : std::max<int64_t>(0, position - (rule.window - 1));
  }
};

PagedAttention::Layout::Layout(const Shape& shape, const KernelSet& kernels, int threads)
    : states(kStatesPerThread * threads),
      state_rows(kernels.tiled_attention == nullptr ? kRowsPerTile : kMaxRowsPerTile) {
  const int64_t key_width = KvCache::PaddedWidth(DType::kQ8_0, shape.key_dim);
  const int64_t value_width = KvCache::PaddedWidth(DType::kQ8_0, shape.value_dim);
  state_floats = state_rows * (1 + value_width);
  query_floats = kRowsPerTile * key_width;
  scratch_floats = query_floats + kRowsPerTile * kPageRowsAtOnce;
  if (kernels.tiled_attention != nullptr) {
    const int64_t bytes = kernels.tiled_attention->scratch_bytes(key_width, value_width);
    scratch_floats =
        std::max(scratch_floats, CeilDivide(bytes, static_cast<int64_t>(sizeof(float))));
  }
  floats = states * state_floats + threads * scratch_floats;
}

PagedAttention::PagedAttention(const Shape& shape, const KernelSet& kernels, ThreadPool& threads)
    : shape_(shape),
      kernels_(kernels),
      threads_(threads),
      group_(shape.heads / shape.kv_heads),
      heads_per_tile_(std::min(group_, kMaxHeadsPerTile)),
      layout_(shape, kernels, threads.threads()),
      floats_(static_cast<size_t>(layout_.floats)),
      totals_(static_cast<size_t>(layout_.states * layout_.state_rows)),
      unfinished_(static_cast<size_t>(kTilesPerThread * threads.threads())) {
  first_tile_.reserve(static_cast<size_t>(shape.max_chunks));
}

int64_t PagedAttention::BytesFor(const Shape& shape, const KernelSet& kernels, int threads) {
  const Layout layout(shape, kernels, threads);
  return layout.floats * static_cast<int64_t>(sizeof(float)) +
         layout.states * layout.state_rows * static_cast<int64_t>(sizeof(double)) +
         kTilesPerThread * threads * static_cast<int64_t>(sizeof(std::atomic<int32_t>)) +
         shape.max_chunks * static_cast<int64_t>(sizeof(int64_t));
}

PagedAttention::State PagedAttention::StateAt(int64_t index) {
  float* floats = floats_.data() + index * layout_.state_floats;
  return {.totals = totals_.data() + index * layout_.state_rows,
          .maxima = floats,
          .sums = floats + layout_.state_rows};
}

bool PagedAttention::AtOnce(const Call& call, const BatchChunk& chunk) const {
  return kernels_.tiled_attention != nullptr &&
         chunk.tokens >= kernels_.tiled_attention->least_tokens && call.rule.softcap == 0 &&
         call.segment_tokens() <= AttentionTile::kMaxRows;
}

int64_t PagedAttention::QueriesPerTile(const Call& call, const BatchChunk& chunk) const {
  return (AtOnce(call, chunk) ? AttentionTile::kMaxCount : kRowsPerTile) / heads_per_tile_;
}

PagedAttention::Tile PagedAttention::TileAt(const Call& call, int64_t index) const {
  const int64_t tiles_a_group = CeilDivide(group_, heads_per_tile_);
  const int64_t tiles_a_query = shape_.kv_heads * tiles_a_group;
  const auto after = std::ranges::upper_bound(first_tile_, index);
  const BatchChunk& chunk = call.batch.chunks[static_cast<size_t>(after - first_tile_.begin() - 1)];
  const int64_t within = index - *(after - 1);
  const int64_t queries = QueriesPerTile(call, chunk);
  const int64_t first = within / tiles_a_query * queries;
  const int64_t first_head = within % tiles_a_group * heads_per_tile_;
  const int64_t kv_head = within % tiles_a_query / tiles_a_group;
  Tile tile{.sequence = chunk.sequence,
            .first_token = chunk.first_token + first,
            .tokens = std::min(queries, chunk.tokens - first),
            .first_position = chunk.first_position + first,
            .kv_head = kv_head,
            .first_head = kv_head * group_ + first_head,
            .heads = std::min(heads_per_tile_, group_ - first_head),
            .at_once = AtOnce(call, chunk)};
  tile.first_segment = call.FirstSeen(tile.first_position) / call.segment_tokens();
  tile.end_segment = CeilDivide(tile.first_position + tile.tokens, call.segment_tokens());
  return tile;
}

void PagedAttention::Run(const AttentionRule& rule, int64_t layer, const Batch& batch,
                         const KvCache& cache, const float* queries, float* out) {
  const ScopedSpan span(batch.profile, Part::kContext, layer);
  const Call call{rule, layer, batch, cache, queries, out};
  const int64_t tiles_a_query = shape_.kv_heads * CeilDivide(group_, heads_per_tile_);
  int64_t tiles = 0;
  first_tile_.clear();
  for (const BatchChunk& chunk : batch.chunks) {
    first_tile_.push_back(tiles);
    tiles += CeilDivide(chunk.tokens, QueriesPerTile(call, chunk)) * tiles_a_query;
  }
  int64_t segments = 0;
  if (tiles <= std::ssize(unfinished_)) {
    for (int64_t i = 0; i < tiles; ++i) {
      const Tile tile = TileAt(call, i);
      segments = std::max(segments, tile.end_segment - tile.first_segment);
    }
  }
  if (segments > 1) {
    RunSegments(call, tiles, segments);
  } else {
    RunTiles(call, tiles);
  }
}

/// Each tile walks all its segments.
void PagedAttention::RunTiles(const Call& call, int64_t tiles) {
  threads_.ParallelFor(tiles, [&](int64_t index, int worker) {
    // The last positions see most: first come the longest tasks.
    const Tile tile = TileAt(call, tiles - 1 - index);
    const State part = StateAt(2 * worker), whole = StateAt(2 * worker + 1);
    Start(call, tile, whole);
    for (int64_t segment = tile.first_segment; segment < tile.end_segment; ++segment) {
      AddSegment(call, tile, segment, worker, part);
      Join(tile, call.cache.value_width(), part, whole);
    }
    Finish(call, tile, whole);
  });
}

/// Segments are shared out, as many at once as there are states for their results; whoever
/// computes the last one of a tile joins them.
void PagedAttention::RunSegments(const Call& call, int64_t tiles, int64_t segments) {
  const int64_t at_once = std::min(segments, layout_.states / tiles - 1);
  for (int64_t i = 0; i < tiles; ++i) Start(call, TileAt(call, i), StateAt(i));
  for (int64_t first = 0; first < segments; first += at_once) {
    for (int64_t i = 0; i < tiles; ++i)
      unfinished_[static_cast<size_t>(i)].store(static_cast<int32_t>(at_once),
                                                std::memory_order_relaxed);
    threads_.ParallelFor(tiles * at_once, [&](int64_t index, int worker) {
      const int64_t tile_index = index / at_once;
      const Tile tile = TileAt(call, tile_index);
      const int64_t begin = tile.first_segment + first;
      const int64_t segment = begin + index % at_once;
      if (segment < tile.end_segment)
        AddSegment(call, tile, segment, worker, StateAt(tiles + index));
      if (unfinished_[static_cast<size_t>(tile_index)].fetch_sub(1, std::memory_order_acq_rel) > 1)
        return;
      const int64_t computed = std::min(at_once, tile.end_segment - begin);
      for (int64_t i = 0; i < computed; ++i)
        Join(tile, call.cache.value_width(), StateAt(tiles + tile_index * at_once + i),
             StateAt(tile_index));
    });
  }
  for (int64_t i = 0; i < tiles; ++i) Finish(call, TileAt(call, i), StateAt(i));
}

void PagedAttention::Start(const Call& call, const Tile& tile, const State& whole) const {
  std::fill_n(whole.sums, tile.rows() * call.cache.value_width(), 0.0f);
  for (int64_t row = 0; row < tile.rows(); ++row) {
    // A sink is one more term of the softmax, with no value.
    const bool sink = !call.rule.sinks.empty();
    whole.maxima[row] =
        sink ? call.rule.sinks[static_cast<size_t>(tile.first_head + row % tile.heads)] : kNothing;
    whole.totals[row] = sink ? 1 : 0;
  }
}

void PagedAttention::AddSegment(const Call& call, const Tile& tile, int64_t segment, int worker,
                                const State& part) {
  float* scratch =
      floats_.data() + layout_.states * layout_.state_floats + worker * layout_.scratch_floats;
  if (tile.at_once) {
    AddSegmentAtOnce(call, tile, segment, scratch, part);
  } else {
    AddPages(call, tile, segment, scratch, part);
  }
}

/// Rows keep their place in the segment, so that a query's result does not depend on its tile's.
void PagedAttention::AddSegmentAtOnce(const Call& call, const Tile& tile, int64_t segment,
                                      float* scratch, const State& part) const {
  const KvCache& cache = call.cache;
  const int64_t page_tokens = cache.page_tokens();
  const int64_t start = segment * call.segment_tokens();
  const int64_t end_position =
      std::min(start + call.segment_tokens(), tile.first_position + tile.tokens);
  std::array<const std::byte*, AttentionTile::kMaxRows> keys, values;
  int64_t rows = 0;
  const int64_t first_seen = std::max(start, call.FirstSeen(tile.first_position));
  for (; start + rows < first_seen; ++rows) keys[Size(rows)] = values[Size(rows)] = nullptr;
  while (start + rows < end_position) {
    const int64_t page = (start + rows) / page_tokens;
    const KvCache::PageRows of = cache.Rows(tile.sequence, call.layer, page, tile.kv_head);
    const int64_t end = std::min(end_position, (page + 1) * page_tokens);
    for (int64_t i = start + rows - page * page_tokens; start + rows < end; ++i, ++rows) {
      keys[Size(rows)] = of.keys + i * of.key_stride;
      values[Size(rows)] = of.values + i * of.value_stride;
    }
  }
  std::array<const float*, AttentionTile::kMaxCount> queries;
  std::array<int32_t, AttentionTile::kMaxCount> begin, end;
  for (int64_t row = 0; row < tile.rows(); ++row) {
    const int64_t token = row / tile.heads, own = tile.first_position + token;
    const int64_t head = tile.first_head + row % tile.heads;
    queries[Size(row)] =
        call.queries + ((tile.first_token + token) * shape_.heads + head) * cache.key_width();
    begin[Size(row)] =
        static_cast<int32_t>(std::clamp<int64_t>(call.FirstSeen(own) - start, 0, rows));
    end[Size(row)] = static_cast<int32_t>(std::clamp<int64_t>(own + 1 - start, 0, rows));
  }
  const AttentionTile at_once{.type = cache.type(),
                              .rows = rows,
                              .key_dim = cache.key_width(),
                              .value_dim = cache.value_width(),
                              .keys = keys.data(),
                              .values = values.data(),
                              .count = tile.rows(),
                              .queries = queries.data(),
                              .begin = begin.data(),
                              .end = end.data(),
                              .scale = call.rule.scale};
  kernels_.tiled_attention->attend(at_once, reinterpret_cast<std::byte*>(scratch), part.maxima,
                                   part.totals, part.sums);
}

/// `queries` are room for the tile's queries and for scores.
void PagedAttention::AddPages(const Call& call, const Tile& tile, int64_t segment, float* queries,
                              const State& part) const {
  const KvCache& cache = call.cache;
  const int64_t key_width = cache.key_width(), page_tokens = cache.page_tokens();
  for (int64_t t = 0; t < tile.tokens; ++t) {
    const int64_t row = (tile.first_token + t) * shape_.heads + tile.first_head;
    std::copy_n(call.queries + row * key_width, tile.heads * key_width,
                queries + t * tile.heads * key_width);
  }
  std::fill_n(part.sums, tile.rows() * cache.value_width(), 0.0f);
  std::fill_n(part.maxima, tile.rows(), kNothing);
  std::fill_n(part.totals, tile.rows(), 0.0);

  const int64_t end_position = tile.first_position + tile.tokens;
  const int64_t first_page = std::max(segment * call.pages_per_segment(),
                                      call.FirstSeen(tile.first_position) / page_tokens);
  const int64_t end_page =
      std::min((segment + 1) * call.pages_per_segment(), CeilDivide(end_position, page_tokens));
  for (int64_t page = first_page; page < end_page; ++page) {
    const KvCache::PageRows rows = cache.Rows(tile.sequence, call.layer, page, tile.kv_head);
    KvCache::PageRows next{};
    if (tile.tokens == 1 && (page + 1) * page_tokens < end_position)
      next = cache.Rows(tile.sequence, call.layer, page + 1, tile.kv_head);
    const auto after = [](const std::byte* data, int64_t bytes) {
      return data == nullptr ? nullptr : data + bytes;
    };
    const int64_t stored = std::min(page_tokens, end_position - page * page_tokens);
    for (int64_t begin = 0; begin < stored; begin += kPageRowsAtOnce) {
      const int64_t count = std::min(kPageRowsAtOnce, stored - begin);
      AddRows(call, tile, page * page_tokens + begin,
              {.type = cache.type(),
               .data = rows.keys + begin * rows.key_stride,
               .stride = rows.key_stride,
               .rows = count,
               .dim = key_width,
               .next = after(next.keys, begin * rows.key_stride)},
              {.type = cache.type(),
               .data = rows.values + begin * rows.value_stride,
               .stride = rows.value_stride,
               .rows = count,
               .dim = cache.value_width(),
               .next = after(next.values, begin * rows.value_stride)},
              queries, part);
    }
  }
}

/// Adds the terms of rows of a page, the first of which is at `position`. `queries` are followed
/// by room for the scores.
void PagedAttention::AddRows(const Call& call, const Tile& tile, int64_t position,
                             const CacheRows& keys, const CacheRows& values, float* queries,
                             const State& part) const {
  float* scores = queries + layout_.query_floats;
  kernels_.attention_scores(keys, queries, tile.rows(), call.rule.scale, scores, kPageRowsAtOnce);
  for (int64_t row = 0; row < tile.rows(); ++row) {
    const int64_t own = tile.first_position + row / tile.heads;
    const int64_t begin = std::max<int64_t>(0, call.FirstSeen(own) - position);
    const int64_t end = std::min(keys.rows, own + 1 - position);
    float* sums = part.sums + row * values.dim;
    const float max = part.maxima[row];
    part.maxima[row] = Exponentials(call, begin, end, keys.rows, scores + row * kPageRowsAtOnce,
                                    max, part.totals[row]);
    if (part.maxima[row] == max || max == kNothing) continue;
    const float shrink = std::exp(max - part.maxima[row]);
    for (int64_t d = 0; d < values.dim; ++d) sums[d] *= shrink;
  }
  kernels_.attention_values(values, scores, kPageRowsAtOnce, tile.rows(), part.sums);
}

/// Turns the scores [begin, end) into exponentials relative to the greatest score so far, which is
/// returned, and the others, which the query does not see, into zeros. Brings `total` up to date.
float PagedAttention::Exponentials(const Call& call, int64_t begin, int64_t end, int64_t count,
                                   float* scores, float max, double& total) const {
  if (begin >= end) {
    std::fill_n(scores, count, 0.0f);
    return max;
  }
  if (call.rule.softcap > 0) {
    for (int64_t i = begin; i < end; ++i)
      scores[i] = call.rule.softcap * std::tanh(scores[i] / call.rule.softcap);
  }
  // Exponentials add up by place: what is not seen keeps its place, so that a query's bits do not
  // depend on which others it is computed with.
  std::fill(scores, scores + begin, kNothing);
  std::fill(scores + end, scores + count, kNothing);
  const float greatest = Greatest(max, scores, count);
  if (greatest > max) total *= static_cast<double>(std::exp(max - greatest));
  total += static_cast<double>(kernels_.exp_minus_max(scores, count, greatest));
  return greatest;
}

/// whole += part, both brought to the greater of their maxima.
void PagedAttention::Join(const Tile& tile, int64_t width, const State& part, const State& whole) {
  for (int64_t row = 0; row < tile.rows(); ++row) {
    if (part.maxima[row] == kNothing) continue;
    const float max = std::max(part.maxima[row], whole.maxima[row]);
    const float old = std::exp(whole.maxima[row] - max), added = std::exp(part.maxima[row] - max);
    whole.maxima[row] = max;
    whole.totals[row] = whole.totals[row] * static_cast<double>(old) +
                        part.totals[row] * static_cast<double>(added);
    float* sums = whole.sums + row * width;
    const float* more = part.sums + row * width;
    for (int64_t d = 0; d < width; ++d) sums[d] = sums[d] * old + more[d] * added;
  }
}

void PagedAttention::Finish(const Call& call, const Tile& tile, const State& whole) const {
  for (int64_t row = 0; row < tile.rows(); ++row) {
    const int64_t token = tile.first_token + row / tile.heads;
    const int64_t head = tile.first_head + row % tile.heads;
    const auto inverse = static_cast<float>(1 / whole.totals[row]);
    const float* sums = whole.sums + row * call.cache.value_width();
    float* out = call.out + (token * shape_.heads + head) * shape_.value_dim;
    for (int64_t d = 0; d < shape_.value_dim; ++d) out[d] = sums[d] * inverse;
  }
}

}  // namespace moxie
