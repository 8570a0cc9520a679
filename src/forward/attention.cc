#include "forward/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace moxie {
namespace {

constexpr int64_t kQueriesPerTask = 8;  // They pass over a page while it is in the cache.
constexpr int64_t kMaxHeadsPerTask = 8;
constexpr int64_t kMaxPageTokens = 1024;  // As KvCache allows.

int64_t CeilDivide(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace

/// Some queries of one chunk and some heads that share a key head.
struct PagedAttention::Task {
  SequenceId sequence;
  int64_t first_token, tokens;  // In the batch.
  int64_t first_position;
  int64_t kv_head;
  int64_t first_head, heads;
};

int64_t PagedAttention::HeadsPerTask(int64_t heads, int64_t kv_heads) {
  return std::min(heads / kv_heads, kMaxHeadsPerTask);
}

int64_t PagedAttention::BytesFor(int threads, int64_t heads, int64_t kv_heads, int64_t value_dim) {
  const int64_t states = kQueriesPerTask * HeadsPerTask(heads, kv_heads);
  const int64_t width = KvCache::PaddedWidth(DType::kQ8_0, value_dim);
  constexpr auto kFloat = static_cast<int64_t>(sizeof(float));
  constexpr auto kDouble = static_cast<int64_t>(sizeof(double));
  return threads * (kFloat * (states * (width + 1) + kMaxPageTokens) + kDouble * states);
}

PagedAttention::PagedAttention(const KernelSet& kernels, ThreadPool& threads, int64_t heads,
                               int64_t kv_heads, int64_t value_dim, int64_t max_chunks)
    : kernels_(kernels),
      threads_(threads),
      heads_(heads),
      kv_heads_(kv_heads),
      value_dim_(value_dim),
      heads_per_task_(HeadsPerTask(heads, kv_heads)),
      scratch_(static_cast<size_t>(threads.threads())) {
  const auto states = static_cast<size_t>(kQueriesPerTask * heads_per_task_);
  const int64_t width = KvCache::PaddedWidth(DType::kQ8_0, value_dim);
  for (Scratch& scratch : scratch_) {
    scratch.sums.resize(states * static_cast<size_t>(width));
    scratch.scores.resize(static_cast<size_t>(kMaxPageTokens));
    scratch.maxima.resize(states);
    scratch.totals.resize(states);
  }
  first_task_.reserve(static_cast<size_t>(max_chunks));
}

void PagedAttention::Run(const AttentionRule& rule, int64_t layer, const Batch& batch,
                         const KvCache& cache, const float* queries, float* out) {
  const int64_t group = heads_ / kv_heads_;
  const int64_t tasks_a_head = CeilDivide(group, heads_per_task_);  // A key head, that is.
  const int64_t tasks_a_query = kv_heads_ * tasks_a_head;
  int64_t tasks = 0;
  first_task_.clear();
  for (const BatchChunk& chunk : batch.chunks) {
    first_task_.push_back(tasks);
    tasks += CeilDivide(chunk.tokens, kQueriesPerTask) * tasks_a_query;
  }
  threads_.ParallelFor(tasks, [&](int64_t index, int worker) {
    const auto after = std::ranges::upper_bound(first_task_, index);
    const BatchChunk& chunk = batch.chunks[static_cast<size_t>(after - first_task_.begin() - 1)];
    const int64_t within = index - *(after - 1);
    const int64_t first = within / tasks_a_query * kQueriesPerTask;
    const int64_t first_head = within % tasks_a_head * heads_per_task_;
    Task task{.sequence = chunk.sequence,
              .first_token = chunk.first_token + first,
              .tokens = std::min(kQueriesPerTask, chunk.tokens - first),
              .first_position = chunk.first_position + first,
              .kv_head = within % tasks_a_query / tasks_a_head,
              .first_head = first_head,
              .heads = std::min(heads_per_task_, group - first_head)};
    task.first_head += task.kv_head * group;
    RunTask(rule, layer, cache, task, queries, out, scratch_[static_cast<size_t>(worker)]);
  });
}

void PagedAttention::RunTask(const AttentionRule& rule, int64_t layer, const KvCache& cache,
                             const Task& task, const float* queries, float* out,
                             Scratch& scratch) const {
  const int64_t states = task.tokens * task.heads;
  const int64_t width = cache.value_width();
  std::fill_n(scratch.sums.begin(), states * width, 0.0f);
  for (int64_t s = 0; s < states; ++s) {
    // A sink is one more term of the softmax, with no value.
    const bool sink = !rule.sinks.empty();
    scratch.maxima[static_cast<size_t>(s)] =
        sink ? rule.sinks[static_cast<size_t>(task.first_head + s % task.heads)]
             : -std::numeric_limits<float>::infinity();
    scratch.totals[static_cast<size_t>(s)] = sink ? 1 : 0;
  }

  const int64_t page_tokens = cache.page_tokens();
  const auto first_seen = [&](int64_t position) {
    return rule.window == 0 ? 0 : std::max<int64_t>(0, position - (rule.window - 1));
  };
  const int64_t last_page = (task.first_position + task.tokens - 1) / page_tokens;
  for (int64_t page = first_seen(task.first_position) / page_tokens; page <= last_page; ++page) {
    const KvCache::PageRows rows = cache.Rows(task.sequence, layer, page, task.kv_head);
    for (int64_t s = 0; s < states; ++s) {
      const int64_t query = s / task.heads, head = task.first_head + s % task.heads;
      const int64_t position = task.first_position + query;
      const int64_t begin = std::max<int64_t>(0, first_seen(position) - page * page_tokens);
      const int64_t end = std::min(page_tokens, position + 1 - page * page_tokens);
      if (begin >= end) continue;
      const float* q = queries + ((task.first_token + query) * heads_ + head) * cache.key_width();
      AddPage(rule, cache, rows, begin, end, q, scratch.maxima[static_cast<size_t>(s)],
              scratch.totals[static_cast<size_t>(s)], scratch.sums.data() + s * width,
              scratch.scores.data());
    }
  }

  for (int64_t s = 0; s < states; ++s) {
    const int64_t token = task.first_token + s / task.heads;
    const int64_t head = task.first_head + s % task.heads;
    const auto inverse = static_cast<float>(1 / scratch.totals[static_cast<size_t>(s)]);
    const float* sum = scratch.sums.data() + s * width;
    float* row = out + (token * heads_ + head) * value_dim_;
    for (int64_t d = 0; d < value_dim_; ++d) row[d] = sum[d] * inverse;
  }
}

void PagedAttention::AddPage(const AttentionRule& rule, const KvCache& cache,
                             const KvCache::PageRows& rows, int64_t begin, int64_t end,
                             const float* query, float& max, double& total, float* sum,
                             float* scores) const {
  const int64_t count = end - begin;
  kernels_.attention_scores(cache.type(), query, rows.keys + begin * rows.key_stride,
                            rows.key_stride, count, cache.key_width(), rule.scale, scores);
  if (rule.softcap > 0) {
    for (int64_t i = 0; i < count; ++i)
      scores[i] = rule.softcap * std::tanh(scores[i] / rule.softcap);
  }
  const float page_max = *std::max_element(scores, scores + count);
  if (page_max > max) {
    const float shrink = std::exp(max - page_max);
    total *= static_cast<double>(shrink);
    for (int64_t d = 0; d < cache.value_width(); ++d) sum[d] *= shrink;
    max = page_max;
  }
  total += static_cast<double>(kernels_.exp_minus_max(scores, count, max));
  kernels_.attention_values(cache.type(), scores, rows.values + begin * rows.value_stride,
                            rows.value_stride, count, cache.value_width(), sum);
}

}  // namespace moxie
