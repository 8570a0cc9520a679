#pragma once

#include "core/cpu_features.h"
#include "core/matrix.h"
#include "kernels/lanes/floats.h"

namespace moxie::lanes {
namespace {

constexpr int64_t kChunkElements = 256;

// How far ahead weights are asked for: what a core reads in half a microsecond or so, in which
// memory answers even when all cores ask.
constexpr int64_t kAheadBytes = 16 << 10;

/// Asks for `bytes` from `begin` on, which may lie past the memory that weights have. A cache that
/// reads ahead by itself is asked for in the second level: the first has too few misses under way.
MOXIE_INLINE void AskFor(const uint8_t* begin, int64_t bytes, bool reads_ahead) {
  if (reads_ahead) {
    for (int64_t line = 0; line < bytes; line += 64) __builtin_prefetch(begin + line, 0, 2);
  } else {
    for (int64_t line = 0; line < bytes; line += 64) __builtin_prefetch(begin + line, 0, 3);
  }
}

/// Where chunk `c` of `kRows` rows of weights lies. Rows at and beyond `row_end` repeat the last
/// one. A row's last chunk may be shorter than 256 elements; formats read a whole one nevertheless,
/// so where that would be past the matrix it is copied and completed with zeros.
template <class Format, int kRows>
class ChunkOfRows {
 public:
  static constexpr bool kPacked = false;
  static constexpr int64_t kBlockBytes = sizeof(typename Format::Block);
  static constexpr int64_t kBytes = kChunkElements / Format::Block::kElements * kBlockBytes;

  ChunkOfRows(const WeightMatrix& weights, int64_t row, int64_t row_end)
      : cols_(weights.cols),
        end_(reinterpret_cast<const uint8_t*>(weights.row(weights.rows - 1)) +
             weights.cols / Format::Block::kElements * kBlockBytes) {
    Move(weights, row, row_end);
  }

  /// Goes on with the rows from `row` on, of the same matrix.
  void Move(const WeightMatrix& weights, int64_t row, int64_t row_end) {
    for (int r = 0; r < kRows; ++r) {
      rows_[r] = reinterpret_cast<const uint8_t*>(weights.row(Min(row + r, row_end - 1)));
    }
    ahead_ = rows_[0] + BytesAhead(weights.row_stride);
    const int64_t chunks = (weights.cols + kChunkElements - 1) / kChunkElements;
    share_bytes_ = (kRows * weights.row_stride + 8 * chunks - 1) / (8 * chunks);
  }

  void Select(int64_t c) {
    selected_ = c;
    const int64_t left = cols_ - c * kChunkElements;
    groups_ = static_cast<int>(Min(left, kChunkElements) / 32);
    for (int r = 0; r < kRows; ++r) {
      chunk_[r] = rows_[r] + c * kBytes;
    }
    if (left >= kChunkElements) return;
    for (int r = 0; r < kRows; ++r) {
      if (end_ - chunk_[r] >= kBytes) continue;
      const int64_t bytes = left / Format::Block::kElements * kBlockBytes;
      CopyBytes(padded_[r], chunk_[r], bytes);
      __builtin_memset(padded_[r] + bytes, 0, static_cast<size_t>(kBytes - bytes));
      chunk_[r] = padded_[r];
    }
  }

  /// Asks for share `i` of 8 of as much of some later rows' memory as the selected chunk is of
  /// these rows, in the order in which it lies there: short streams, a part of each row, end before
  /// the processor's own prefetching pays. Past the matrix this does nothing.
  __attribute__((always_inline)) void Prefetch(int i) const {
    AskFor(ahead_ + (8 * selected_ + i) * share_bytes_, share_bytes_, reads_ahead_);
  }

  const uint8_t* operator[](int r) const { return chunk_[r]; }

  /// How many times 32 elements the selected chunk has.
  int groups() const { return groups_; }

 private:
  /// Whole groups of kRows rows, so that every line is asked for once.
  static int64_t BytesAhead(int64_t row_stride) {
    const int64_t rows = kRows * row_stride;
    return (kAheadBytes + rows - 1) / rows * rows;
  }

  bool reads_ahead_ = UsableCpuFeatures().reads_ahead;
  int64_t cols_;
  const uint8_t* ahead_;
  int64_t share_bytes_;
  int64_t selected_ = 0;
  const uint8_t* end_;
  int groups_ = 0;
  const uint8_t* rows_[kRows];
  const uint8_t* chunk_[kRows];
  uint8_t padded_[kRows][kBytes];
};

}  // namespace
}  // namespace moxie::lanes
