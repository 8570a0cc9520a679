#pragma once

#include "core/cpu_features.h"
#include "core/matrix.h"
#include "kernels/x86/unpack.h"

namespace moxie::x86 {
namespace {

/// Rows as pack_rows.h packs them, as many as L (eight_lanes.h) has lanes. `row` is a multiple of
/// kLanes, as are the matrix's rows. Offsets are those of a row's own bytes, in its selected chunk.
/// A chunk of blocks of 32 begins with the scales of all, so that codes fill whole cache lines.
template <class L, class F>
class PackedRows {
 public:
  using Lanes = L;
  using Format = F;
  static constexpr bool kPacked = true;
  static constexpr int kRows = L::kLanes;

  PackedRows(const WeightMatrix& weights, int64_t row, int64_t row_end) : cols_(weights.cols) {
    Move(weights, row, row_end);
  }

  void Move(const WeightMatrix& weights, int64_t row, int64_t row_end) {
    const int64_t last = (row_end - 1) / kRows * kRows;
    rows_ = reinterpret_cast<const uint8_t*>(weights.row(Min(row, last)));
  }

  void Select(int64_t c) {
    chunk_ = rows_ + kRows * c * kBytes;
    groups_ = static_cast<int>(Min(cols_ - c * kChunkElements, kChunkElements) / 32);
  }

  /// As ChunkOfRows::Prefetch.
  MOXIE_MEMBER void Prefetch(int i) const {
    constexpr int64_t kShare = kRows * kBytes / 8;
    if (!(kInOrder && reads_ahead_))
      lanes::AskFor(chunk_ + i * kShare + kAheadBytes, kShare, reads_ahead_);
  }

  int groups() const { return groups_; }
  const uint8_t* Base() const { return chunk_; }

  /// 16-bit floats at `offset`, 16-bit words, bytes: each in 32 bits.
  MOXIE_MEMBER typename L::Floats Halves(int64_t offset) const { return L::HalvesAt(At(offset)); }
  MOXIE_MEMBER typename L::Ints WidenedWords(int64_t offset) const {
    return L::WordsAt(At(offset));
  }
  MOXIE_MEMBER typename L::Ints WidenedBytes(int64_t offset) const {
    return L::BytesAt(At(offset));
  }
  MOXIE_MEMBER typename L::Ints Word(int64_t offset) const { return L::Load(At(offset)); }
  MOXIE_MEMBER void FourWords(int64_t offset, typename L::Ints (&out)[4]) const {
    MOXIE_UNROLL
    for (int k = 0; k < 4; ++k) out[k] = Word(offset + 4 * k);
  }
  /// Where the piece at `offset` of the first row lies; the others' follow.
  MOXIE_MEMBER const uint8_t* At(int64_t offset) const {
    if constexpr (F::Block::kElements == kChunkElements) return chunk_ + kRows * offset;
    const int64_t block = offset / kBlockBytes;
    const int64_t at = offset % kBlockBytes;
    if (at < kScaleBytes) return chunk_ + kRows * (block * kScaleBytes + at);
    return chunk_ +
           kRows * (groups_ * kScaleBytes + block * (kBlockBytes - kScaleBytes) + at - kScaleBytes);
  }

 private:
  static constexpr int64_t kBlockBytes = sizeof(typename F::Block);
  static constexpr int64_t kBytes = kChunkElements / F::Block::kElements * kBlockBytes;
  /// Whether a chunk is read from its beginning to its end, a stream like any other.
  static constexpr bool kInOrder = HasNibbles<F> || HasNibblePairs<F> || HasWholeCodes<F>;
  static constexpr int64_t kScaleBytes = [] {  // Of a block of 32: the first run of pack_rows.h.
    if constexpr (requires { F::kBeginsWithHalves; }) return F::kHasMin ? 4 : 2;
    return 1;
  }();

  bool reads_ahead_ = UsableCpuFeatures().reads_ahead;
  int64_t cols_;
  const uint8_t* rows_;
  const uint8_t* chunk_ = nullptr;
  int groups_ = 0;
};

}  // namespace
}  // namespace moxie::x86
