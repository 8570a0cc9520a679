#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/function_ref.h"
#include "core/matrix.h"
#include "core/thread_pool.h"
#include "kernels/kernel_set.h"

namespace moxie {

/// The weight types that one matrix of activations is multiplied with, without repetition.
class WeightTypes {
 public:
  WeightTypes() = default;
  void Add(DType type);
  void Add(const WeightMatrix& weights) {
    if (!weights.empty()) Add(weights.type);
  }
  std::span<const DType> types() const { return types_; }

 private:
  std::vector<DType> types_;
};

/// Activations as matmul takes them, rows in one format.
struct Activations {
  ActivationFormat format;
  const std::byte* data = nullptr;
};

/// The most bytes that up to `rows` rows take for weights of that type, in `groups` groups that
/// each begin a panel, whatever the number of rows that are computed together.
int64_t ActivationBytes(const KernelSet& kernels, DType weights, int64_t cols, int64_t rows,
                        int64_t groups);

/// Rows of activations, converted once to every form that the weights to come want.
///
/// Reserve at creation for each use, then Begin and Convert allocate nothing.
class ActivationRows {
 public:
  explicit ActivationRows(const KernelSet& kernels) : kernels_(kernels) {}

  /// Makes room for a later Begin of up to `rows` rows.
  void Reserve(int64_t rows, int64_t cols, const WeightTypes& types);
  /// The bytes that this takes.
  static int64_t BytesFor(const KernelSet& kernels, int64_t rows, int64_t cols,
                          const WeightTypes& types);

  /// Lays `rows` rows from `first` on out anew. `types` must be among those reserved.
  void Begin(int64_t rows, int64_t cols, const WeightTypes& types, int64_t first = 0);

  /// Converts all rows; row(i) is row i's `cols` floats, i from `first` on.
  void Convert(ThreadPool& threads, FunctionRef<const float*(int64_t row)> row);

  /// As Begin was told.
  int64_t rows() const { return rows_; }
  int64_t first() const { return first_; }

  /// The converted rows for weights of this type.
  Activations For(DType weights) const;

 private:
  struct Form {
    ActivationFormat format;
    int64_t offset = 0;
  };
  static constexpr size_t kMaxForms = 8;

  void ConvertPanels(int64_t begin, int64_t count, FunctionRef<const float*(int64_t row)> row);

  const KernelSet& kernels_;
  std::vector<std::byte> bytes_;
  std::array<Form, kMaxForms> forms_;
  size_t form_count_ = 0;
  int64_t rows_ = 0;
  int64_t first_ = 0;
  int64_t cols_ = 0;
};

/// out[r] = scale * sum_c rows[r, c] * x[c], for float32 rows one after another.
void MultiplyFloatRows(const KernelSet& kernels, const float* rows, int64_t count, int64_t cols,
                       const float* x, float scale, float* out);

/// A low-rank addition to a product: out[t] += scale * B (A x[t]) (LoRA, arXiv:2106.09685), with
/// A x already computed.
struct LowRankTerm {
  const float* b = nullptr;        ///< [rows, rank]
  const float* reduced = nullptr;  ///< [tokens, rank]: A x
  int64_t rank = 0;
  float scale = 1;
};

/// out[t * out_stride + r] = W[r] . x[t] + bias[r], plus the low-rank terms.
struct Product {
  const WeightMatrix* weights = nullptr;
  Activations activations = {};
  int64_t tokens = 0;
  float* out = nullptr;
  int64_t out_stride = 0;
  std::span<const float> bias = {};  ///< [rows] or empty
  std::span<const LowRankTerm> terms = {};
};

/// Rows [begin, end) of one product.
void MultiplyRows(const KernelSet& kernels, const Product& product, int64_t begin, int64_t end);

/// Rows of several matrices cut into tasks of some tens of kilobytes of weights. Where a matrix is
/// cut depends on its shape and type alone, never on threads or tokens.
class RowTiles {
 public:
  /// Room for this many matrices, so that Add never allocates.
  void Reserve(size_t matrices) { entries_.reserve(matrices); }
  void Clear() { entries_.clear(); }
  void Add(const WeightMatrix& weights);

  /// Rows of a tile of such a matrix: a multiple of 32, unless it has fewer.
  static int64_t RowsPerTile(const WeightMatrix& weights);

  /// Calls task(matrix, row_begin, row_end, worker) for every tile, matrices numbered as added.
  void Run(ThreadPool& threads,
           FunctionRef<void(size_t matrix, int64_t begin, int64_t end, int worker)> task) const;

 private:
  struct Entry {
    int64_t rows;
    int64_t rows_per_tile;
    int64_t first_task;
  };
  std::vector<Entry> entries_;
};

/// Products computed together, between one pair of barriers.
class ProductList {
 public:
  explicit ProductList(size_t capacity) {
    products_.reserve(capacity);
    tiles_.Reserve(capacity);
  }
  void Clear();
  void Add(const Product& product);
  void Run(const KernelSet& kernels, ThreadPool& threads) const;

 private:
  std::vector<Product> products_;
  RowTiles tiles_;
};

/// Calls task(token) for each; on the caller alone where there are few, since a barrier costs more
/// than they do.
void ForEachToken(ThreadPool& threads, int64_t tokens, FunctionRef<void(int64_t token)> task);

}  // namespace moxie
