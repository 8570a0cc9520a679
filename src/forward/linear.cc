#include "forward/linear.h"

#include <algorithm>

#include "moxie/result.h"

namespace moxie {
namespace {

constexpr int64_t kTileBytes = 64 << 10;  // Of weights: a tile and its inputs fit the cache.
constexpr int64_t kRowStep = 48;          // Kernels multiply up to that many rows at a time.
constexpr int64_t kMinTokensToShare = 4;
constexpr int64_t kAlignment = 64;

int64_t RowsPerTile(const WeightMatrix& weights) {
  const int64_t row_bytes = std::max<int64_t>(1, BytesOf(weights.type, weights.cols).value_or(1));
  return std::max(kRowStep, kTileBytes / row_bytes / kRowStep * kRowStep);
}

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

int64_t ActivationRows::Layout(const KernelSet& kernels, int64_t rows, int64_t cols,
                               const WeightTypes& types, std::array<Form, kMaxForms>& forms,
                               size_t& count) {
  int64_t offset = 0;
  count = 0;
  for (const DType type : types.types()) {
    const ActivationFormat format = kernels.activation_format(type, cols);
    const auto same = std::find_if(forms.begin(), forms.begin() + static_cast<int64_t>(count),
                                   [&](const Form& f) { return f.format.id == format.id; });
    if (same != forms.begin() + static_cast<int64_t>(count)) continue;
    MOXIE_CHECK(count < kMaxForms);
    forms[count++] = {.type = type, .format = format, .offset = offset};
    offset += (rows * format.row_bytes + kAlignment - 1) / kAlignment * kAlignment;
  }
  return offset;
}

int64_t ActivationRows::BytesFor(const KernelSet& kernels, int64_t rows, int64_t cols,
                                 const WeightTypes& types) {
  std::array<Form, kMaxForms> forms;
  size_t count = 0;
  return Layout(kernels, rows, cols, types, forms, count);
}

void ActivationRows::Reserve(int64_t rows, int64_t cols, const WeightTypes& types) {
  const auto bytes = static_cast<size_t>(BytesFor(kernels_, rows, cols, types));
  if (bytes > bytes_.size()) bytes_.resize(bytes);
}

void ActivationRows::Begin(int64_t rows, int64_t cols, const WeightTypes& types) {
  const auto bytes = static_cast<size_t>(Layout(kernels_, rows, cols, types, forms_, form_count_));
  MOXIE_CHECK(bytes <= bytes_.size());
  cols_ = cols;
}

void ActivationRows::Convert(int64_t row, const float* x) {
  for (size_t i = 0; i < form_count_; ++i) {
    const Form& form = forms_[i];
    kernels_.convert_activations(form.type, cols_, x,
                                 bytes_.data() + form.offset + row * form.format.row_bytes);
  }
}

const ActivationRows::Form& ActivationRows::FormFor(DType weights) const {
  const int32_t id = kernels_.activation_format(weights, cols_).id;
  for (size_t i = 0; i < form_count_; ++i) {
    if (forms_[i].format.id == id) return forms_[i];
  }
  MOXIE_CHECK(false && "activations were not laid out for this type");
  return forms_[0];
}

const std::byte* ActivationRows::Row(DType weights, int64_t row) const {
  const Form& form = FormFor(weights);
  return bytes_.data() + form.offset + row * form.format.row_bytes;
}

int64_t ActivationRows::RowBytes(DType weights) const { return FormFor(weights).format.row_bytes; }

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
  kernels.matmul(*product.weights, begin, end, product.activations, product.tokens, product.out,
                 product.out_stride);
  if (!product.bias.empty()) {
    for (int64_t t = 0; t < product.tokens; ++t)
      kernels.add_scaled(1.0f, product.bias.data() + begin, end - begin,
                         product.out + t * product.out_stride + begin);
  }
  for (const LowRankTerm& term : product.terms) AddLowRank(kernels, term, product, begin, end);
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

void RowTiles::Run(ThreadPool& threads,
                   FunctionRef<void(size_t matrix, int64_t begin, int64_t end)> task) const {
  if (entries_.empty()) return;
  const Entry& last = entries_.back();
  const int64_t tasks = last.first_task + (last.rows + last.rows_per_tile - 1) / last.rows_per_tile;
  threads.ParallelFor(tasks, [&](int64_t index, int) {
    const auto after = std::ranges::upper_bound(entries_, index, {}, &Entry::first_task);
    const Entry& entry = *(after - 1);
    const int64_t begin = (index - entry.first_task) * entry.rows_per_tile;
    task(static_cast<size_t>(after - 1 - entries_.begin()), begin,
         std::min(begin + entry.rows_per_tile, entry.rows));
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
  tiles_.Run(threads, [&](size_t matrix, int64_t begin, int64_t end) {
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
