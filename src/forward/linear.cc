#include "forward/linear.h"

#include <algorithm>

#include "moxie/result.h"

namespace moxie {
namespace {

constexpr int64_t kTileBytes = 64 << 10;  // Of weights: a tile and its inputs fit the cache.
constexpr int64_t kRowStep = 96;          // Kernels multiply 32 or 48 rows at a time.
constexpr int64_t kMinTokensToShare = 4;
constexpr int64_t kAlignment = 64;

void AddLowRank(const KernelSet& kernels, const LowRankTerm& term, const Product& product,
                int64_t begin, int64_t end) {
  constexpr int64_t kBlock = 64;
  float sums[kBlock];
  for (int64_t t = 0; t < product.tokens; ++t) {
    float* out = product.out + t * product.out_stride;
    for (int64_t r = begin; r < end; r += kBlock) {
      const int64_t count = std::min(kBlock, end - r);
      MultiplyFloatRows(kernels, term.b + r * term.rank, count, term.rank,
                        term.reduced + t * term.rank, term.scale, sums);
      for (int64_t i = 0; i < count; ++i) out[r + i] += sums[i];
    }
  }
}

}  // namespace

void WeightTypes::Add(DType type) {
  if (std::ranges::find(types_, type) == types_.end()) types_.push_back(type);
}

int64_t ActivationBytes(const KernelSet& kernels, DType weights, int64_t cols, int64_t rows,
                        int64_t groups) {
  int64_t bytes = 0;
  for (const int64_t tokens : {int64_t{1}, rows}) {
    const ActivationFormat format = kernels.activation_format(weights, cols, tokens);
    bytes = std::max(bytes, (rows + groups * (format.panel - 1)) * format.row_bytes);
  }
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

int64_t ActivationRows::BytesFor(const KernelSet& kernels, int64_t rows, int64_t cols,
                                 const WeightTypes& types) {
  std::array<std::array<int32_t, 2>, kMaxForms> seen = {};
  size_t count = 0;
  int64_t bytes = 0;
  for (const DType type : types.types()) {
    // Types share their room where they share a form for one row and one for many.
    const std::array forms = {kernels.activation_format(type, cols, 1).id,
                              kernels.activation_format(type, cols, rows).id};
    const auto end = seen.begin() + static_cast<int64_t>(count);
    if (std::find(seen.begin(), end, forms) != end) continue;
    MOXIE_CHECK(count < kMaxForms);
    seen[count++] = forms;
    bytes += ActivationBytes(kernels, type, cols, rows, 1);
  }
  return bytes;
}

void ActivationRows::Reserve(int64_t rows, int64_t cols, const WeightTypes& types) {
  const auto bytes = static_cast<size_t>(BytesFor(kernels_, rows, cols, types));
  if (bytes > bytes_.size()) bytes_.resize(bytes);
}

void ActivationRows::Begin(int64_t rows, int64_t cols, const WeightTypes& types, int64_t first) {
  rows_ = rows;
  first_ = first;
  cols_ = cols;
  form_count_ = 0;
  int64_t offset = 0;
  for (const DType type : types.types()) {
    const ActivationFormat format = kernels_.activation_format(type, cols, rows);
    const auto end = forms_.begin() + static_cast<int64_t>(form_count_);
    const auto same = [&](const Form& form) { return form.format.id == format.id; };
    if (std::find_if(forms_.begin(), end, same) != end) continue;
    MOXIE_CHECK(form_count_ < kMaxForms);
    forms_[form_count_++] = {.format = format, .offset = offset};
    offset += (format.BytesOf(rows) + kAlignment - 1) / kAlignment * kAlignment;
  }
  MOXIE_CHECK(offset <= std::ssize(bytes_));
}

void ActivationRows::Convert(ThreadPool& threads, FunctionRef<const float*(int64_t row)> row) {
  int64_t together = 1;
  for (const Form& form : std::span(forms_).first(form_count_))
    together = std::max(together, form.format.panel);
  const auto convert = [&](int64_t i) {
    ConvertPanels(i * together, std::min(together, rows_ - i * together), row);
  };
  ForEachToken(threads, (rows_ + together - 1) / together, convert);
}

void ActivationRows::ConvertPanels(int64_t begin, int64_t count,
                                   FunctionRef<const float*(int64_t row)> row) {
  std::array<const float*, kMaxPanel> rows;
  for (int64_t i = 0; i < count; ++i) rows[static_cast<size_t>(i)] = row(first_ + begin + i);
  for (const Form& form : std::span(forms_).first(form_count_)) {
    for (int64_t i = 0; i < count; i += form.format.panel) {
      kernels_.convert_activations(form.format, cols_, rows.data() + i,
                                   std::min(form.format.panel, count - i),
                                   bytes_.data() + form.offset + form.format.BytesOf(begin + i));
    }
  }
}

Activations ActivationRows::For(DType weights) const {
  const ActivationFormat format = kernels_.activation_format(weights, cols_, rows_);
  for (const Form& form : std::span(forms_).first(form_count_)) {
    if (form.format.id == format.id) return {form.format, bytes_.data() + form.offset};
  }
  MOXIE_CHECK(false && "activations were not laid out for this type");
  return {};
}

void MultiplyFloatRows(const KernelSet& kernels, const float* rows, int64_t count, int64_t cols,
                       const float* x, float scale, float* out) {
  // The scores of a query against float32 keys are just that product.
  kernels.attention_scores({.type = DType::kF32,
                            .data = reinterpret_cast<const std::byte*>(rows),
                            .stride = cols * static_cast<int64_t>(sizeof(float)),
                            .rows = count,
                            .dim = cols},
                           x, 1, scale, out, count);
}

void MultiplyRows(const KernelSet& kernels, const Product& product, int64_t begin, int64_t end) {
  kernels.matmul(product.activations.format, *product.weights, begin, end, product.activations.data,
                 product.tokens, product.out, product.out_stride);
  if (!product.bias.empty()) {
    for (int64_t t = 0; t < product.tokens; ++t)
      kernels.add_scaled(1.0f, product.bias.data() + begin, end - begin,
                         product.out + t * product.out_stride + begin);
  }
  for (const LowRankTerm& term : product.terms) AddLowRank(kernels, term, product, begin, end);
}

int64_t RowTiles::RowsPerTile(const WeightMatrix& weights) {
  const int64_t row_bytes = std::max<int64_t>(1, BytesOf(weights.type, weights.cols).value_or(1));
  return std::min(weights.rows, std::max(kRowStep, kTileBytes / row_bytes / kRowStep * kRowStep));
}

void RowTiles::Add(const WeightMatrix& weights) {
  const int64_t first = entries_.empty()
                            ? 0
                            : entries_.back().first_task +
                                  (entries_.back().rows + entries_.back().rows_per_tile - 1) /
                                      entries_.back().rows_per_tile;
  entries_.push_back(
      {.rows = weights.rows, .rows_per_tile = RowsPerTile(weights), .first_task = first});
}

void RowTiles::Run(
    ThreadPool& threads,
    FunctionRef<void(size_t matrix, int64_t begin, int64_t end, int worker)> task) const {
  if (entries_.empty()) return;
  const Entry& last = entries_.back();
  const int64_t tasks = last.first_task + (last.rows + last.rows_per_tile - 1) / last.rows_per_tile;
  threads.ParallelFor(tasks, [&](int64_t index, int worker) {
    const auto after = std::ranges::upper_bound(entries_, index, {}, &Entry::first_task);
    const Entry& entry = *(after - 1);
    const int64_t begin = (index - entry.first_task) * entry.rows_per_tile;
    task(static_cast<size_t>(after - 1 - entries_.begin()), begin,
         std::min(begin + entry.rows_per_tile, entry.rows), worker);
  });
}

void ProductList::Clear() {
  products_.clear();
  tiles_.Clear();
}

void ProductList::Add(const Product& product) {
  products_.push_back(product);
  tiles_.Add(*product.weights);
}

void ProductList::Run(const KernelSet& kernels, ThreadPool& threads) const {
  tiles_.Run(threads, [&](size_t matrix, int64_t begin, int64_t end, int) {
    MultiplyRows(kernels, products_[matrix], begin, end);
  });
}

void ForEachToken(ThreadPool& threads, int64_t tokens, FunctionRef<void(int64_t token)> task) {
  if (tokens < kMinTokensToShare) {
    for (int64_t t = 0; t < tokens; ++t) task(t);
    return;
  }
  threads.ParallelFor(tokens, [&](int64_t t, int) { task(t); });
}

}  // namespace moxie
