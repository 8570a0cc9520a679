#include "forward/feed_forward.h"

#include <algorithm>
#include <array>
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
    sum.rows += demand.rows;
    sum.inner += demand.rows * demand.ffn;
    for (const DType type : demand.input_types.types())
      sum.gathered += ActivationBytes(kernels, type, dim, demand.rows, demand.tasks);
    for (const DType type : demand.down_types.types())
      sum.converted += ActivationBytes(kernels, type, demand.ffn, demand.rows, demand.tasks);
  }
  tasks = std::max(tasks, sum.tasks);
  rows = std::max(rows, sum.rows);
  inner = std::max(inner, sum.inner);
  gathered = std::max(gathered, sum.gathered);
  converted = std::max(converted, sum.converted);
}

int64_t FeedForward::Room::bytes() const {
  return 2 * inner * static_cast<int64_t>(sizeof(float)) + gathered + converted +
         3 * rows * static_cast<int64_t>(sizeof(Panel));
}

void FeedForward::Reserve(const Room& room) {
  gate_.resize(static_cast<size_t>(room.inner));
  up_.resize(static_cast<size_t>(room.inner));
  gathered_.resize(static_cast<size_t>(room.gathered));
  converted_.resize(static_cast<size_t>(room.converted));
  gathers_.reserve(static_cast<size_t>(2 * room.rows));  // Of gate, and of up in another form.
  conversions_.reserve(static_cast<size_t>(room.rows));
  work_.reserve(static_cast<size_t>(room.tasks));
  gate_tiles_.Reserve(static_cast<size_t>(room.tasks));
  down_tiles_.Reserve(static_cast<size_t>(room.tasks));
}

/// The task's rows of `x` in the form for `weights`, one after another: where they lie, or
/// gathered.
Activations FeedForward::Rows(std::span<const int32_t> tokens, const ActivationRows& x,
                              const float* floats, DType weights) {
  Activations rows = x.For(weights);
  const ActivationFormat& format = rows.format;
  if (Consecutive(tokens) && (tokens[0] - x.first()) % format.panel == 0) {
    rows.data += format.BytesOf(tokens[0] - x.first());
    return rows;
  }
  std::byte* to = gathered_.data() + gathered_bytes_;
  gathered_bytes_ += format.BytesOf(std::ssize(tokens));
  MOXIE_CHECK(gathered_bytes_ <= std::ssize(gathered_));
  if (format.panel == 1) {
    for (size_t i = 0; i < tokens.size(); ++i)
      std::memcpy(to + format.BytesOf(static_cast<int64_t>(i)),
                  rows.data + format.BytesOf(tokens[i] - x.first()),
                  static_cast<size_t>(format.row_bytes));
  } else {
    AddPanels({.format = format, .cols = dim_, .x = floats, .tokens = tokens, .out = to},
              std::ssize(tokens), gathers_);
  }
  rows.data = to;
  return rows;
}

/// Cuts `rows` rows from the first on into panels like `panel`.
void FeedForward::AddPanels(Panel panel, int64_t rows, std::vector<Panel>& panels) {
  const int64_t most = panel.format.panel;
  const std::span<const int32_t> tokens = panel.tokens;
  for (int64_t begin = 0; begin < rows; begin += most) {
    panel.count = std::min(most, rows - begin);
    if (!tokens.empty())
      panel.tokens = tokens.subspan(static_cast<size_t>(begin), static_cast<size_t>(panel.count));
    MOXIE_CHECK(panels.size() < panels.capacity());
    panels.push_back(panel);
    if (tokens.empty()) panel.x += panel.count * panel.cols;
    panel.out += panel.format.BytesOf(panel.count);
  }
}

void FeedForward::Convert(std::span<const Panel> panels) const {
  ForEachToken(threads_, std::ssize(panels), [&](int64_t index) {
    const Panel& panel = panels[static_cast<size_t>(index)];
    std::array<const float*, kMaxPanel> rows;
    for (size_t i = 0; i < static_cast<size_t>(panel.count); ++i) {
      const auto row = panel.tokens.empty() ? static_cast<int64_t>(i) : panel.tokens[i];
      rows[i] = panel.x + row * panel.cols;
    }
    kernels_.convert_activations(panel.format, panel.cols, rows.data(), panel.count, panel.out);
  });
}

/// What a worker takes for a tile's gate, and for its up, where they can go to the form for down at
/// once, while they are in the cache: nobody else asks for them, and their columns are converted by
/// themselves. Else 0.
int64_t FeedForward::TileFloats(std::span<const FeedForwardTask> tasks, int64_t pass_tokens) const {
  int64_t most = 0;
  for (const FeedForwardTask& task : tasks) {
    const WeightMatrix& gate = task.weights.gate;
    const int64_t slice =
        kernels_.activation_format(task.weights.down.type, gate.rows, pass_tokens).slice;
    const int64_t rows = RowTiles::RowsPerTile(gate);
    if (task.pairs != nullptr || slice == 0 || rows % slice != 0 || gate.rows % slice != 0)
      return 0;
    most = std::max(most, rows * std::ssize(task.tokens));
  }
  return most * threads_.threads() <= std::ssize(gate_) ? most : 0;
}

/// Lays out where every task reads and writes.
void FeedForward::Plan(std::span<const FeedForwardTask> tasks, const ActivationRows& x,
                       const float* floats) {
  work_.clear();
  gate_tiles_.Clear();
  down_tiles_.Clear();
  gathers_.clear();
  conversions_.clear();
  gathered_bytes_ = converted_bytes_ = 0;
  int64_t inner = 0;
  for (const FeedForwardTask& task : tasks) {
    const ExpertView& weights = task.weights;
    const int64_t ffn = weights.gate.rows, tokens = std::ssize(task.tokens);
    MOXIE_CHECK(inner + tokens * ffn <= std::ssize(gate_) && work_.size() < work_.capacity());
    const Activations input = Rows(task.tokens, x, floats, weights.gate.type);
    const bool alike = x.For(weights.up.type).format.id == input.format.id;
    work_.push_back(
        {.gate = {.weights = &weights.gate,
                  .activations = input,
                  .tokens = tokens,
                  .out = gate_.data() + inner,
                  .out_stride = ffn,
                  .bias = weights.gate_bias},
         .up = {.weights = &weights.up,
                .activations = alike ? input : Rows(task.tokens, x, floats, weights.up.type),
                .tokens = tokens,
                .out = up_.data() + inner,
                .out_stride = ffn,
                .bias = weights.up_bias},
         .down = {.weights = &weights.down,
                  .tokens = tokens,
                  .out = task.out,
                  .out_stride = dim_,
                  .bias = weights.down_bias}});
    PlanDown(work_.back(), x.rows());
    inner += tokens * ffn;
    gate_tiles_.Add(weights.gate);
    down_tiles_.Add(weights.down);
  }
}

/// Where the activated rows go. Their form is that of a pass of `pass_tokens`, as the input's is.
void FeedForward::PlanDown(Work& work, int64_t pass_tokens) {
  const int64_t ffn = work.gate.out_stride, tokens = work.down.tokens;
  const ActivationFormat format =
      kernels_.activation_format(work.down.weights->type, ffn, pass_tokens);
  std::byte* to = converted_.data() + converted_bytes_;
  converted_bytes_ += format.BytesOf(tokens);
  MOXIE_CHECK(converted_bytes_ <= std::ssize(converted_));
  if (tile_floats_ == 0)
    AddPanels({.format = format, .cols = ffn, .x = work.gate.out, .out = to}, tokens, conversions_);
  work.down.activations = {format, to};
}

void FeedForward::RunGates(std::span<const FeedForwardTask> tasks, const ActivationRows& x,
                           const float* floats, InputObserver* observer) {
  tile_floats_ = observer == nullptr ? TileFloats(tasks, x.rows()) : 0;
  Plan(tasks, x, floats);
  Convert(gathers_);
  adapters_.Clear();
  for (size_t i = 0; i < tasks.size(); ++i) {
    if (tasks[i].pairs == nullptr) continue;
    const auto row = [&](int64_t t) {
      return floats + tasks[i].tokens[static_cast<size_t>(t)] * dim_;
    };
    work_[i].gate.terms = adapters_.Reduce(tasks[i].pairs->gate, work_[i].gate.tokens, row);
    work_[i].up.terms = adapters_.Reduce(tasks[i].pairs->up, work_[i].up.tokens, row);
  }
  gate_tiles_.Run(threads_, [&](size_t index, int64_t begin, int64_t end, int worker) {
    if (tile_floats_ > 0) {
      ActivateTile(work_[index], begin, end, worker);
    } else {
      MultiplyGate(work_[index], begin, end);
    }
  });
  if (observer != nullptr) Show(tasks, floats, *observer);
}

void FeedForward::RunDowns(std::span<const FeedForwardTask> tasks) {
  Convert(conversions_);
  adapters_.Clear();
  for (size_t i = 0; i < tasks.size(); ++i) {
    if (tasks[i].pairs == nullptr) continue;
    work_[i].down.terms = adapters_.Reduce(tasks[i].pairs->down, work_[i].down.tokens,
                                           [&](int64_t t) { return work_[i].ActivatedRow(t); });
  }
  down_tiles_.Run(threads_, [&](size_t index, int64_t begin, int64_t end, int) {
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

/// Some rows of gate and up, the activation, and their part of down's input.
void FeedForward::ActivateTile(const Work& work, int64_t begin, int64_t end, int worker) {
  const int64_t rows = end - begin, tokens = work.gate.tokens;
  const auto multiply = [&](Product product, float* out) {
    WeightMatrix part = *product.weights;
    part.data = part.row(begin);
    part.rows = rows;
    product.weights = &part;
    product.out = out;
    product.out_stride = rows;
    if (!product.bias.empty())
      product.bias = product.bias.subspan(static_cast<size_t>(begin), static_cast<size_t>(rows));
    MultiplyRows(kernels_, product, 0, rows);
  };
  float* gate = gate_.data() + worker * tile_floats_;
  float* up = up_.data() + worker * tile_floats_;
  multiply(work.gate, gate);
  multiply(work.up, up);
  const auto count = static_cast<size_t>(tokens * rows);
  ApplyActivation(kernels_, activation_, {gate, count}, {up, count});

  const ActivationFormat& format = work.down.activations.format;
  const int64_t panel_bytes = format.BytesOf(format.panel);
  std::byte* out = converted_.data() + (work.down.activations.data - converted_.data()) +
                   panel_bytes * begin / work.gate.weights->rows;
  std::array<const float*, kMaxPanel> panel;
  for (int64_t t = 0; t < tokens; t += format.panel, out += panel_bytes) {
    const int64_t together = std::min(format.panel, tokens - t);
    for (int64_t i = 0; i < together; ++i) panel[static_cast<size_t>(i)] = gate + (t + i) * rows;
    kernels_.convert_activations(format, rows, panel.data(), together, out);
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

}  // namespace moxie
