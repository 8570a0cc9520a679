#include "forward/feed_forward.h"

#include <algorithm>
#include <cstring>

#include "moxie/result.h"

namespace moxie {
namespace {

bool Consecutive(std::span<const int32_t> tokens) {
  for (size_t i = 1; i < tokens.size(); ++i) {
    if (tokens[i] != tokens[i - 1] + 1) return false;
  }
  return true;
}

}  // namespace

void FeedForward::Room::Include(std::span<const Demand> demands, const KernelSet& kernels,
                                int64_t dim) {
  Room sum;
  for (const Demand& demand : demands) {
    sum.tasks += demand.tasks;
    sum.inner += demand.rows * demand.ffn;
    for (const DType type : demand.input_types.types())
      sum.gathered += demand.rows * kernels.activation_format(type, dim).row_bytes;
    for (const DType type : demand.down_types.types())
      sum.converted += demand.rows * kernels.activation_format(type, demand.ffn).row_bytes;
  }
  tasks = std::max(tasks, sum.tasks);
  inner = std::max(inner, sum.inner);
  gathered = std::max(gathered, sum.gathered);
  converted = std::max(converted, sum.converted);
}

int64_t FeedForward::Room::bytes() const {
  return 2 * inner * static_cast<int64_t>(sizeof(float)) + gathered + converted;
}

void FeedForward::Reserve(const Room& room) {
  gate_.resize(static_cast<size_t>(room.inner));
  up_.resize(static_cast<size_t>(room.inner));
  gathered_.resize(static_cast<size_t>(room.gathered));
  converted_.resize(static_cast<size_t>(room.converted));
  work_.reserve(static_cast<size_t>(room.tasks));
  gate_tiles_.Reserve(static_cast<size_t>(room.tasks));
  down_tiles_.Reserve(static_cast<size_t>(room.tasks));
}

/// The task's rows of `x`, one after another: where they lie, or gathered.
const std::byte* FeedForward::Rows(std::span<const int32_t> tokens, const ActivationRows& x,
                                   DType weights) {
  if (Consecutive(tokens)) return x.Row(weights, tokens[0]);
  const int64_t row_bytes = x.RowBytes(weights);
  std::byte* rows = gathered_.data() + gathered_bytes_;
  gathered_bytes_ += std::ssize(tokens) * row_bytes;
  MOXIE_CHECK(gathered_bytes_ <= std::ssize(gathered_));
  for (size_t i = 0; i < tokens.size(); ++i)
    std::memcpy(rows + static_cast<int64_t>(i) * row_bytes, x.Row(weights, tokens[i]),
                static_cast<size_t>(row_bytes));
  return rows;
}

void FeedForward::Gather(const FeedForwardTask& task, const ActivationRows& x, Work& work) {
  const DType gate = task.weights.gate.type, up = task.weights.up.type;
  work.gate.activations = Rows(task.tokens, x, gate);
  work.up.activations =
      x.Row(gate, 0) == x.Row(up, 0) ? work.gate.activations : Rows(task.tokens, x, up);
  work.gate.activation_stride = x.RowBytes(gate);
  work.up.activation_stride = x.RowBytes(up);
}

/// Lays out where every task reads and writes.
void FeedForward::Plan(std::span<const FeedForwardTask> tasks, const ActivationRows& x) {
  work_.clear();
  gate_tiles_.Clear();
  down_tiles_.Clear();
  gathered_bytes_ = 0;
  int64_t rows = 0, inner = 0, converted = 0;
  for (const FeedForwardTask& task : tasks) {
    const ExpertView& weights = task.weights;
    const int64_t ffn = weights.gate.rows, tokens = std::ssize(task.tokens);
    const int64_t stride = kernels_.activation_format(weights.down.type, ffn).row_bytes;
    Work work{.gate = {.weights = &weights.gate,
                       .tokens = tokens,
                       .out = gate_.data() + inner,
                       .out_stride = ffn,
                       .bias = weights.gate_bias},
              .up = {.weights = &weights.up,
                     .tokens = tokens,
                     .out = up_.data() + inner,
                     .out_stride = ffn,
                     .bias = weights.up_bias},
              .down = {.weights = &weights.down,
                       .activations = converted_.data() + converted,
                       .activation_stride = stride,
                       .tokens = tokens,
                       .out = task.out,
                       .out_stride = dim_,
                       .bias = weights.down_bias},
              .first_row = rows};
    Gather(task, x, work);
    rows += tokens;
    inner += tokens * ffn;
    converted += tokens * stride;
    MOXIE_CHECK(inner <= std::ssize(gate_) && converted <= std::ssize(converted_) &&
                work_.size() < work_.capacity());
    work_.push_back(work);
    gate_tiles_.Add(weights.gate);
    down_tiles_.Add(weights.down);
  }
}

void FeedForward::Run(std::span<const FeedForwardTask> tasks, const ActivationRows& x,
                      const float* floats, InputObserver* observer) {
  Plan(tasks, x);
  adapters_.Clear();
  for (size_t i = 0; i < tasks.size(); ++i) {
    if (tasks[i].pairs == nullptr) continue;
    const auto row = [&](int64_t t) {
      return floats + tasks[i].tokens[static_cast<size_t>(t)] * dim_;
    };
    work_[i].gate.terms = adapters_.Reduce(tasks[i].pairs->gate, work_[i].gate.tokens, row);
    work_[i].up.terms = adapters_.Reduce(tasks[i].pairs->up, work_[i].up.tokens, row);
  }
  gate_tiles_.Run(threads_, [&](size_t index, int64_t begin, int64_t end) {
    MultiplyGate(work_[index], begin, end);
  });

  if (observer != nullptr) Show(tasks, floats, *observer);
  const int64_t rows = work_.back().first_row + work_.back().gate.tokens;
  ForEachToken(threads_, rows, [&](int64_t row) { Convert(row); });
  adapters_.Clear();
  for (size_t i = 0; i < tasks.size(); ++i) {
    if (tasks[i].pairs == nullptr) continue;
    work_[i].down.terms = adapters_.Reduce(tasks[i].pairs->down, work_[i].down.tokens,
                                           [&](int64_t t) { return work_[i].ActivatedRow(t); });
  }
  down_tiles_.Run(threads_, [&](size_t index, int64_t begin, int64_t end) {
    MultiplyRows(kernels_, work_[index].down, begin, end);
  });
}

/// Some rows of gate and up, and the activation while they are in the cache.
void FeedForward::MultiplyGate(const Work& work, int64_t begin, int64_t end) const {
  MultiplyRows(kernels_, work.gate, begin, end);
  MultiplyRows(kernels_, work.up, begin, end);
  for (int64_t t = 0; t < work.gate.tokens; ++t) {
    const int64_t at = t * work.gate.out_stride + begin;
    const auto count = static_cast<size_t>(end - begin);
    ApplyActivation(kernels_, activation_, {work.gate.out + at, count}, {work.up.out + at, count});
  }
}

void FeedForward::Show(std::span<const FeedForwardTask> tasks, const float* floats,
                       InputObserver& observer) const {
  for (size_t i = 0; i < tasks.size(); ++i) {
    MatrixPlace place = tasks[i].place;
    const auto ffn = static_cast<size_t>(work_[i].gate.out_stride);
    for (size_t t = 0; t < tasks[i].tokens.size(); ++t) {
      place.role = MatrixRole::kGateUp;
      observer.OnInput(place, {floats + tasks[i].tokens[t] * dim_, static_cast<size_t>(dim_)});
      place.role = MatrixRole::kDown;
      observer.OnInput(place, {work_[i].ActivatedRow(static_cast<int64_t>(t)), ffn});
    }
  }
}

void FeedForward::Convert(int64_t row) {
  const Work& work = *(std::ranges::upper_bound(work_, row, {}, &Work::first_row) - 1);
  const int64_t t = row - work.first_row;
  // `activations` points into converted_, which this fills.
  const int64_t at = work.down.activations - converted_.data() + t * work.down.activation_stride;
  kernels_.convert_activations(work.down.weights->type, work.gate.out_stride, work.ActivatedRow(t),
                               converted_.data() + at);
}

}  // namespace moxie
