#pragma once

#include "kernels/amx/tiles.h"
#include "kernels/avx512/floats.h"
#include "kernels/avx512_bf16/split.h"
#include "kernels/lanes/attention.h"

// Keys, values and queries as tiles. A float32 number is split in two (avx512_bf16/split.h); of two
// such numbers' product all but low times low is added up, so that it errs by at most 2^-15 of
// itself. A binary16 number's e is 0.

namespace moxie::amx {
namespace {

using avx512::Floats;
using avx512_bf16::HighOf;
using lanes::Min;

constexpr int64_t kLanes = 16;  // Queries of a panel, rows or dimensions of a tile.
constexpr int64_t kDepth = 32;  // Elements that a tile multiplies and adds up.
constexpr int64_t kTileBytes = 1024;
constexpr int64_t kSplitBytes = 2 * kTileBytes;  // The high parts, then the low ones.

MOXIE_INLINE int64_t RoundUp(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

/// Pairs of bfloat16 numbers: the high parts, and the low ones, rounded.
MOXIE_INLINE void SplitPairs(__m512 even, __m512 odd, __m512i& high, __m512i& low) {
  const __m512 high_even = HighOf(even), high_odd = HighOf(odd);
  high = _mm512_or_si512(_mm512_srli_epi32(_mm512_castps_si512(high_even), 16),
                         _mm512_castps_si512(high_odd));
  low = PairOf(_mm512_sub_ps(even, high_even), _mm512_sub_ps(odd, high_odd));
}

/// Transposes 16 x 16 words of 32 bits into a tile.
MOXIE_INLINE void StoreTransposed(__m512i (&words)[16], std::byte* out) {
  __m512 v[16];
  MOXIE_UNROLL
  for (int i = 0; i < 16; ++i) v[i] = _mm512_castsi512_ps(words[i]);
  Floats::Transpose(v);
  MOXIE_UNROLL
  for (int i = 0; i < 16; ++i) _mm512_store_si512(out + 64 * i, _mm512_castps_si512(v[i]));
}

/// The elements [d, d + 16) of a row of `dim`, then zeros.
template <class Row>
MOXIE_INLINE __m512 Elements(const std::byte* row, int64_t d, int64_t dim) {
  if (row == nullptr || d >= dim) return _mm512_setzero_ps();
  return d + kLanes <= dim ? Row::At(row, d, 0) : Row::Tail(row, d, dim - d);
}

/// Groups of 32 rows.
struct Groups {
  int64_t begin = 0, end = 0;
};

/// A step of 32 dimensions of a row from d on, as pairs of those 16 apart.
template <class Row>
MOXIE_INLINE void SplitStep(const std::byte* row, int64_t d, int64_t dim, __m512 scale,
                            __m512i& high, __m512i& low) {
  SplitPairs(_mm512_mul_ps(Elements<Row>(row, d, dim), scale),
             _mm512_mul_ps(Elements<Row>(row, d + kLanes, dim), scale), high, low);
}

/// Keys of 16 rows and 32 dimensions are two tiles, [rows / 16][steps][high, low][row][pair].
template <class Row>
void SplitKeys(const AttentionTile& tile, Groups groups, std::byte* out) {
  const int64_t steps = RoundUp(tile.key_dim, kDepth) / kDepth;
  for (int64_t r = groups.begin * kDepth; r < groups.end * kDepth; ++r) {
    const std::byte* row = r < tile.rows ? tile.keys[r] : nullptr;
    std::byte* to = out + r / kLanes * steps * kSplitBytes + r % kLanes * 64;
    for (int64_t s = 0; s < steps; ++s, to += kSplitBytes) {
      __m512i high, low;
      SplitStep<Row>(row, s * kDepth, tile.key_dim, _mm512_set1_ps(1), high, low);
      _mm512_store_si512(to, high);
      _mm512_store_si512(to + kTileBytes, low);
    }
  }
}

/// Values of 16 dimensions and 32 rows are two tiles, [rows / 32][dims][high, low][dimension][32].
template <class Row>
void SplitValues(const AttentionTile& tile, Groups groups, std::byte* out) {
  const int64_t padded = RoundUp(tile.value_dim, 2 * kLanes);
  for (int64_t g = groups.begin; g < groups.end; ++g) {
    const auto row = [&](int64_t i) {
      const int64_t r = g * kDepth + i;
      return r < tile.rows ? tile.values[r] : nullptr;
    };
    std::byte* to = out + g * (padded / kLanes) * kSplitBytes;
    for (int64_t d = 0; d < padded; d += kLanes, to += kSplitBytes) {
      __m512i high[16], low[16];
      MOXIE_UNROLL
      for (int i = 0; i < 16; ++i) {
        SplitPairs(Elements<Row>(row(2 * i), d, tile.value_dim),
                   Elements<Row>(row(2 * i + 1), d, tile.value_dim), high[i], low[i]);
      }
      StoreTransposed(high, to);
      StoreTransposed(low, to + kTileBytes);
    }
  }
}

/// Queries of a panel, times `scale`: [steps][high, low][pair of dimensions][query].
void SplitQueries(const AttentionTile& tile, int64_t first, float scale, std::byte* out) {
  for (int64_t d = 0; d < tile.key_dim; d += kDepth, out += kSplitBytes) {
    __m512i high[16], low[16];
    MOXIE_UNROLL
    for (int i = 0; i < 16; ++i) {
      const auto* query = first + i < tile.count
                              ? reinterpret_cast<const std::byte*>(tile.queries[first + i])
                              : nullptr;
      SplitStep<lanes::RowF32<Floats>>(query, d, tile.key_dim, _mm512_set1_ps(scale), high[i],
                                       low[i]);
    }
    StoreTransposed(high, out);
    StoreTransposed(low, out + kTileBytes);
  }
}

}  // namespace
}  // namespace moxie::amx
