#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "core/matrix.h"

namespace moxie {

/// The most rows that any format lays out together.
inline constexpr int64_t kMaxPanel = 16;

/// How activations are laid out for a product with weights of some type: plain float32, or a
/// set's own form. Opaque outside src/kernels/. Rows lie one after another, or, where `panel` is
/// more than 1, so many of them together; a last panel that is not full takes as much.
struct ActivationFormat {
  int32_t id = 0;         ///< equal ids within one set mean one conversion serves both
  int64_t row_bytes = 0;  ///< bytes for each row of `cols` activations
  int64_t panel = 1;      ///< rows that are converted and laid out together; divides kMaxPanel
  /// Where this is not 0, as many columns of a panel, from a multiple of them on, may be converted
  /// by themselves: they lie where their part of the panel's bytes does.
  int64_t slice = 0;

  /// Where the panel of row `rows` begins, and what so many rows take where that is one's first.
  int64_t BytesOf(int64_t rows) const { return (rows + panel - 1) / panel * panel * row_bytes; }
};

/// Rows of a key-value cache, as attention reads them.
struct CacheRows {
  DType type = DType::kF32;  ///< f32, f16 or q8_0
  const std::byte* data = nullptr;
  int64_t stride = 0;  ///< bytes between rows
  int64_t rows = 0;
  int64_t dim = 0;  ///< elements read of each row; a multiple of 32 for q8_0
  /// The rows that are read after these, as many and as far apart, or null: they are asked for
  /// meanwhile.
  const std::byte* next = nullptr;
};

/// A tile of queries and the segment of consecutive cache rows that they attend to at once.
struct AttentionTile {
  DType type = DType::kF32;  ///< of the rows: f32, f16 or q8_0 (dimensions are multiples of 32)
  int64_t rows = 0;          ///< of the segment, at most kMaxRows
  int64_t key_dim = 0, value_dim = 0;
  const std::byte* const* keys = nullptr;    ///< [rows]; null where no query sees the row
  const std::byte* const* values = nullptr;  ///< [rows]; null in the same places
  int64_t count = 0;                         ///< queries, at most kMaxCount
  const float* const* queries = nullptr;     ///< [count], of key_dim each
  const int32_t* begin = nullptr;            ///< [count]: each sees rows [begin, end), or none
  const int32_t* end = nullptr;
  float scale = 1;

  static constexpr int64_t kMaxRows = 256;
  static constexpr int64_t kMaxCount = 128;
};

/// Softmax attention (arXiv:1706.03762, section 3.2.1) as one step, for many queries.
struct TiledAttention {
  /// The fewest tokens of a chunk that are worth it. Results differ in their roundings from those
  /// of KernelSet::attention_scores and attention_values, so nothing else may decide.
  int64_t least_tokens;

  int64_t (*scratch_bytes)(int64_t key_dim, int64_t value_dim);

  /// For each query q and the rows i that it sees, with score_i = scale * q . K[i]:
  ///   maxima [count]              the greatest score; -infinity where it sees no row
  ///   totals [count]              sum_i exp(score_i - maximum)
  ///   sums   [count, value_dim]   sum_i exp(score_i - maximum) * V[i]
  /// A query's results are the same whatever the others, and whatever it does not see.
  void (*attend)(const AttentionTile& tile, std::byte* scratch, float* maxima, double* totals,
                 float* sums);
};

/// The arithmetic of one instruction set, as plain functions on spans and shapes. A set knows
/// nothing of models, caches or files.
///
/// Determinism: each output element is computed by one call with a fixed order of operations
/// that depends only on `cols`, the weight type and the activations' format, never on how rows,
/// tokens or threads are split. So results are bit-equal for every thread count, and for every
/// batch composition that leads to the same format; BatchInvariant says which set has only one.
///
/// All functions are thread-safe and allocate nothing. Float arrays and converted activations are
/// aligned as float (64 bytes is best); weights and cache rows may lie anywhere, but for float32
/// and half rows, which are aligned as their elements.
struct KernelSet {
  std::string_view name;   ///< "scalar", "avx2", "avx512", "avx512_bf16", "amx", "neon", ..
  bool (*usable)();        ///< asks the processor (and for AMX the kernel) once; thread-safe
  std::string_view needs;  ///< what `usable` asks for, in words

  /// The activation format that suits weights of this type and width best where `tokens` tokens
  /// are computed together.
  ActivationFormat (*activation_format)(DType weights, int64_t cols, int64_t tokens);

  /// Converts a panel: `count` rows, at most format.panel, of `cols` float32 activations each.
  void (*convert_activations)(const ActivationFormat& format, int64_t cols,
                              const float* const* rows, int64_t count, std::byte* out);

  /// out[t * out_stride + r] = sum_c W[r, c] * x[t, c]  for r in [row_begin, row_end), t in
  /// [0, tokens). `activations` holds converted panels in a format that activation_format gave for
  /// such weights, for any number of tokens. `out` is indexed by the absolute row. Every DType with
  /// a decoder is accepted.
  void (*matmul)(const ActivationFormat& format, const WeightMatrix& weights, int64_t row_begin,
                 int64_t row_end, const std::byte* activations, int64_t tokens, float* out,
                 int64_t out_stride);

  /// scores[q * scores_stride + i] = scale * sum_d queries[q, d] * K[i, d], for queries that lie
  /// one after another, [count, keys.dim]. Each score is the same whatever the other queries and
  /// rows.
  void (*attention_scores)(const CacheRows& keys, const float* queries, int64_t count, float scale,
                           float* scores, int64_t scores_stride);

  /// out[q, d] += sum_i weights[q * weights_stride + i] * V[i, d], in order of i, for sums that lie
  /// one after another, [count, values.dim]. Each sum is the same whatever the other queries.
  void (*attention_values)(const CacheRows& values, const float* weights, int64_t weights_stride,
                           int64_t count, float* out);

  /// out[i] = x[i] * scale[i] / sqrt(mean(x^2) + eps); sums in float32 or better.
  void (*rms_norm)(const float* x, const float* scale, int64_t n, float eps, float* out);

  /// x[i] = exp(x[i] - max) ; returns the sum. The caller divides.
  float (*exp_minus_max)(float* x, int64_t n, float max);

  /// gate[i] = silu(gate[i]) * up[i].
  void (*silu_multiply)(float* gate, const float* up, int64_t n);

  /// y[i] += a * x[i].
  void (*add_scaled)(float a, const float* x, int64_t n, float* y);

  /// What quant/quantize.h's Quantize writes, to the last bit.
  void (*quantize)(DType type, const float* x, int64_t elements, const float* importance,
                   std::byte* out);

  /// How many rows of such weights this set multiplies faster when they are packed together; 0:
  /// none. Null: none of any type.
  int64_t (*packed_rows)(DType type) = nullptr;

  /// Packs packed_rows(type) rows, which lie one after another in `rows`, into as many bytes at
  /// `out`, elsewhere. Results do not depend on packing by as much as a bit. `matmul` takes packed
  /// matrices from a multiple of packed_rows on.
  void (*pack)(DType type, int64_t row_bytes, const std::byte* rows, std::byte* out) = nullptr;

  /// Row `row` of those that lie packed at `rows`, as it was stored, to row_bytes at `out`.
  void (*unpack_row)(DType type, int64_t row_bytes, const std::byte* rows, int64_t row,
                     std::byte* out) = nullptr;

  /// Attention of many tokens; null: the set has no other than the above.
  const TiledAttention* tiled_attention = nullptr;

  /// See BatchInvariant; null: the set itself.
  const KernelSet* batch_invariant = nullptr;
};

/// The same set where its activation formats and its attention do not depend on the number of
/// tokens, else its twin for which they do not: results are then the same whatever is computed
/// together.
inline const KernelSet& BatchInvariant(const KernelSet& set) {
  return set.batch_invariant == nullptr ? set : *set.batch_invariant;
}

/// All sets of this binary but twins, scalar, the reference, first; it is always usable. The last
/// that is usable is the default (docs/kernels.md).
std::span<const KernelSet* const> AllKernelSets();

/// The last usable set: the nearest to float32 of the fast ones, and the fastest with many tokens.
const KernelSet& BestKernelSet();

/// The set of that name; null where there is none or it is not usable here.
const KernelSet* FindKernelSet(std::string_view name);

}  // namespace moxie
