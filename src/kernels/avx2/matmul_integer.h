#pragma once

#include "core/matrix.h"
#include "kernels/avx2/activation_groups.h"
#include "kernels/avx2/row_groups.h"

// The product of quantised weights and panels of activations, for any format of lanes/unpack.h. For
// each output, with g the scale groups of the columns in order:
//
//   out = sum_g scale * (x.scale * sum_i code[i] * x.value[i] - offset * x.sum) + min * x.sum
//
// where x.sum = x.scale * sum_i x.value[i]. The sums over i are exact integers; the others are a
// chain of float32 multiply-adds. So the
// results do not depend on how rows and tokens are cut into tiles.

namespace moxie::avx2 {
namespace {

template <class Format>
constexpr bool kByWords = Format::kBits == 8;

template <class Format>
using GroupOf = std::conditional_t<kByWords<Format>, WordGroup, ByteGroup>;

/// A product's operands and destination.
template <class Rows>
struct Product {
  const WeightMatrix* weights;
  const GroupOf<typename Rows::Format>* activations;
  int64_t groups;  // of a panel of activations
  float* out;
  int64_t out_stride;
};

/// Vectors of codes of 8 rows and 32 columns.
template <class Format>
constexpr int kCodeVectors = kByWords<Format> ? 16 : 8;

/// A chunk of V times 8 rows, unpacked: quads of columns as bytes, or pairs of them as words.
template <class Format, int V>
struct Tile {
  alignas(32) std::byte codes[kChunkElements / 32 * kCodeVectors<Format>][V][32];
  RowScales<V> scales;

  __m256i Load(int at, int v) const {
    return _mm256_load_si256(reinterpret_cast<const __m256i*>(codes[at][v]));
  }
  void Store(int at, int v, __m256i vector) {
    _mm256_store_si256(reinterpret_cast<__m256i*>(codes[at][v]), vector);
  }
};

/// Signed bytes `at` and `at + 1` of each 32 bits as words.
template <int at>
MOXIE_INLINE __m256i WidenPair(__m256i bytes) {
  const __m256i high = _mm256_set1_epi32(at == 0 ? 0x01ff00ff : 0x03ff02ff);
  const __m256i lanes = _mm256_setr_epi32(0, 0x04000400, 0x08000800, 0x0c000c00, 0, 0x04000400,
                                          0x08000800, 0x0c000c00);
  return _mm256_srai_epi16(_mm256_shuffle_epi8(bytes, _mm256_or_si256(high, lanes)), 8);
}

/// The columns 32 * i .., as many as are unpacked together, of 8 rows, as the tile's from place
/// `at` on, in steps of 32.
template <class Rows, int V>
MOXIE_INLINE void UnpackGroups(const Rows& rows, int i, Tile<typename Rows::Format, V>& tile,
                               int at, int v) {
  using Format = typename Rows::Format;
  constexpr int kVectors = kCodeVectors<Format>;
  if constexpr (Rows::kPacked && HasWholeCodes<Format>) {
    const int64_t offset = x86::OffsetOf(rows, Format::WholeCodes, i);
    MOXIE_UNROLL
    for (int k = 0; k < kVectors; ++k) {
      const __m128i pairs = Load128(rows.At(offset + 2 * k));
      tile.Store(at * kVectors + k, v, _mm256_cvtepi8_epi16(pairs));
    }
  } else {
    constexpr int kCodes = 8 * kUnpackedGroups<Rows>;
    __m256i codes[kCodes];
    UnpackCodes(rows, i, codes);
    MOXIE_UNROLL
    for (int q = 0; q < kCodes; ++q) {
      if constexpr (kByWords<Format>) {
        tile.Store(at * kVectors + 2 * q, v, WidenPair<0>(codes[q]));
        tile.Store(at * kVectors + 2 * q + 1, v, WidenPair<2>(codes[q]));
      } else {
        tile.Store(at * kVectors + q, v, codes[q]);
      }
    }
  }
}

// ---- 32 columns ---------------------------------------------------------------------------------

/// How many products of codes and bytes add up in 16 bits: 2 n (2^bits - 1) 127 < 2^15.
template <class Format>
constexpr int kProductsInWords = Format::kBits == 4   ? 8
                                 : Format::kBits == 5 ? 4
                                 : Format::kBits == 6 ? 2
                                                      : 1;

/// Byte `at % 4` of each 32 bits to the lowest place, zeros elsewhere: a control of vpshufb.
alignas(32) constexpr int8_t kPickByte[4][32] = {
    {0, -1, -1, -1, 4, -1, -1, -1, 8, -1, -1, -1, 12, -1, -1, -1,
     0, -1, -1, -1, 4, -1, -1, -1, 8, -1, -1, -1, 12, -1, -1, -1},
    {1, -1, -1, -1, 5, -1, -1, -1, 9, -1, -1, -1, 13, -1, -1, -1,
     1, -1, -1, -1, 5, -1, -1, -1, 9, -1, -1, -1, 13, -1, -1, -1},
    {2, -1, -1, -1, 6, -1, -1, -1, 10, -1, -1, -1, 14, -1, -1, -1,
     2, -1, -1, -1, 6, -1, -1, -1, 10, -1, -1, -1, 14, -1, -1, -1},
    {3, -1, -1, -1, 7, -1, -1, -1, 11, -1, -1, -1, 15, -1, -1, -1,
     3, -1, -1, -1, 7, -1, -1, -1, 11, -1, -1, -1, 15, -1, -1, -1},
};

MOXIE_INLINE __m256i Broadcast(const void* p) {
  return _mm256_set1_epi32(static_cast<int>(LoadU32(p)));
}

/// sums[V][8] of one token += scale group `g` of the chunk; `x_sum` is the scaled one.
template <class Format, int V>
MOXIE_INLINE void AddScaled(const __m256i (&integers)[V], const RowScales<V>& scales, int g,
                            float x_scale, float x_sum, float* sums) {
  const __m256 factor = _mm256_set1_ps(x_scale);
  const __m256 shift = _mm256_set1_ps(Format::kOffset * x_sum);
  MOXIE_UNROLL
  for (int v = 0; v < V; ++v) {
    __m256 products = _mm256_cvtepi32_ps(integers[v]);
    if constexpr (Format::kOffset != 0) {
      products = _mm256_fmsub_ps(products, factor, shift);
    } else {
      products = _mm256_mul_ps(products, factor);
    }
    __m256 sum = _mm256_load_ps(sums + v * kRows);
    sum = _mm256_fmadd_ps(products, _mm256_load_ps(scales.scale[g][v]), sum);
    if constexpr (Format::kHasMin)
      sum = _mm256_fmadd_ps(_mm256_load_ps(scales.min[g][v]), _mm256_set1_ps(x_sum), sum);
    _mm256_store_ps(sums + v * kRows, sum);
  }
}

/// Half `h` of 32 columns, or all of them: integer sums of byte products, peaks left out.
template <class Format, int V, int T>
MOXIE_INLINE void SumBytes(const Tile<Format, V>& tile, int at, int h, const ByteGroup& x,
                           __m256i (&integers)[T][V]) {
  constexpr int kQuads = Format::kGroup / 4;
  constexpr int kRun = kProductsInWords<Format> < kQuads ? kProductsInWords<Format> : kQuads;
  MOXIE_UNROLL
  for (int run = 0; run < kQuads; run += kRun) {
    __m256i words[T][V];
    MOXIE_UNROLL
    for (int k = 0; k < kRun; ++k) {
      const int quad = h * kQuads + run + k;
      __m256i codes[V];
      MOXIE_UNROLL
      for (int v = 0; v < V; ++v) codes[v] = tile.Load(8 * at + quad, v);
      MOXIE_UNROLL
      for (int t = 0; t < T; ++t) {
        const __m256i x_quad = Broadcast(x.small[t] + 4 * quad);
        MOXIE_UNROLL
        for (int v = 0; v < V; ++v) {
          const __m256i products = _mm256_maddubs_epi16(codes[v], x_quad);
          words[t][v] =
              k == 0 ? products : x86::InRegister(_mm256_add_epi16(words[t][v], products));
        }
      }
    }
    MOXIE_UNROLL
    for (int t = 0; t < T; ++t) {
      MOXIE_UNROLL
      for (int v = 0; v < V; ++v) {
        const __m256i sums = _mm256_madd_epi16(words[t][v], _mm256_set1_epi16(1));
        integers[t][v] = run == 0 ? sums : _mm256_add_epi32(integers[t][v], sums);
      }
    }
  }
}

/// Whether a peak of the first T tokens is spared.
template <int T>
MOXIE_INLINE bool HasPeak(const ByteGroup& x) {
  if constexpr (T == 1) return x.peak[0] != 0;
  const __m128i none = _mm_cmpeq_epi32(Load128(x.peak), _mm_setzero_si128());
  return _mm_movemask_epi8(none) != 0xffff;  // vptest would do, but not in SIMDe 0.7.4.
}

/// integers += the codes of peaks times `peaks`.
template <class Format, int V, int T>
MOXIE_INLINE void AddPeaks(const Tile<Format, V>& tile, int at, const int32_t* peaks,
                           const ByteGroup& x, __m256i (&integers)[T][V]) {
  MOXIE_UNROLL
  for (int t = 0; t < T; ++t) {
    const uint32_t peak_at = x.peak_at[t];
    const __m256i peak = _mm256_set1_epi32(peaks[t]);
    const __m256i pick = Load256(kPickByte[peak_at % 4]);
    MOXIE_UNROLL
    for (int v = 0; v < V; ++v) {
      const __m256i code =
          _mm256_shuffle_epi8(tile.Load(8 * at + static_cast<int>(peak_at / 4), v), pick);
      integers[t][v] = _mm256_add_epi32(integers[t][v], _mm256_madd_epi16(code, peak));
    }
  }
}

/// sums [T][V][8] += columns 32 * i .. of the chunk, at the tile's place `at`, times the first T
/// tokens of the panel.
template <class Format, int V, int T>
MOXIE_INLINE void MultiplyGroup(const Tile<Format, V>& tile, int at, int i, const ByteGroup& x,
                                float* sums) {
  constexpr bool kHalves = Format::kGroup == 16;
  const bool spared = HasPeak<T>(x);
  MOXIE_UNROLL
  for (int h = 0; h < (kHalves ? 2 : 1); ++h) {
    __m256i integers[T][V];
    SumBytes<Format, V, T>(tile, at, h, x, integers);
    if (spared) AddPeaks<Format, V, T>(tile, at, kHalves ? x.peak16[h] : x.peak, x, integers);
    MOXIE_UNROLL
    for (int t = 0; t < T; ++t) {
      AddScaled<Format, V>(integers[t], tile.scales, kHalves ? 2 * i + h : i, x.scale[t],
                           (kHalves ? x.sums16[h] : x.sums)[t], sums + t * V * kRows);
    }
  }
}

template <class Format, int V, int T>
MOXIE_INLINE void MultiplyGroup(const Tile<Format, V>& tile, int at, int i, const WordGroup& x,
                                float* sums) {
  static_assert(Format::kGroup == 32 && Format::kOffset == 0 && !Format::kHasMin);
  __m256i integers[T][V];
  MOXIE_UNROLL
  for (int k = 0; k < 16; ++k) {
    __m256i codes[V];
    MOXIE_UNROLL
    for (int v = 0; v < V; ++v) codes[v] = tile.Load(16 * at + k, v);
    MOXIE_UNROLL
    for (int t = 0; t < T; ++t) {
      const __m256i pair = Broadcast(x.values[t] + 2 * k);
      MOXIE_UNROLL
      for (int v = 0; v < V; ++v) {
        const __m256i products = _mm256_madd_epi16(codes[v], pair);
        integers[t][v] =
            k == 0 ? products : x86::InRegister(_mm256_add_epi32(integers[t][v], products));
      }
    }
  }
  MOXIE_UNROLL
  for (int t = 0; t < T; ++t)
    AddScaled<Format, V>(integers[t], tile.scales, i, x.scale[t], 0, sums + t * V * kRows);
}

// ---- up to four tokens --------------------------------------------------------------------------

/// Writes the first `count` lanes.
MOXIE_INLINE void StoreRows(float* out, __m256 values, int64_t count) {
  if (count >= kRows) {
    _mm256_storeu_ps(out, values);
  } else {
    _mm256_maskstore_ps(out, TailMask(count), values);
  }
}

/// Whether one token is multiplied row by row, its columns side by side: bytes in memory widen as
/// they are read, and adding up lanes costs less than transposing.
template <class Rows, int T>
constexpr bool kRowByRow = !Rows::kPacked && HasWholeCodes<typename Rows::Format> && T == 1;

/// The integer sums of columns 32 * i .. of 8 rows.
template <class Format>
MOXIE_INLINE __m256i SumRowByRow(const StoredRows<Format>& rows, int i, const int16_t* x) {
  const __m256i x0 = Load256(x);
  const __m256i x1 = Load256(x + 16);
  const auto sum = [&](int r) __attribute__((always_inline)) {
    const uint8_t* codes = Format::WholeCodes(rows[r], i);
    const __m256i first = _mm256_cvtepi8_epi16(Load128(codes));
    const __m256i second = _mm256_cvtepi8_epi16(Load128(codes + 16));
    return _mm256_add_epi32(_mm256_madd_epi16(first, x0), _mm256_madd_epi16(second, x1));
  };
  return SumLanes(_mm256_hadd_epi32(sum(0), sum(1)), _mm256_hadd_epi32(sum(2), sum(3)),
                  _mm256_hadd_epi32(sum(4), sum(5)), _mm256_hadd_epi32(sum(6), sum(7)));
}

/// The rows times the first T tokens of a panel.
template <class Rows, int T>
void MatVec(const Product<Rows>& product, int64_t row_begin, int64_t row_end) {
  using Format = typename Rows::Format;
  Rows rows(*product.weights, row_begin, row_end);
  Tile<Format, 1> tile;
  for (int64_t row = row_begin; row < row_end; row += kRows) {
    if (row > row_begin) rows.Move(*product.weights, row, row_end);
    alignas(32) float sums[T * kRows] = {};
    const auto* x = product.activations;
    for (int64_t c = 0; 8 * c < product.groups; ++c) {
      rows.Select(c);
      LoadScales(rows, 0, tile.scales);
      for (int i = 0; i < rows.groups(); ++i, ++x) {
        rows.Prefetch(i);
        if constexpr (kRowByRow<Rows, T>) {
          const __m256i integers[1] = {SumRowByRow(rows, i, x->values[0])};
          AddScaled<Format, 1>(integers, tile.scales, i, x->scale[0], 0, sums);
        } else {
          const int at = i % kUnpackedGroups<Rows>;
          if (at == 0) UnpackGroups(rows, i, tile, 0, 0);
          MultiplyGroup<Format, 1, T>(tile, at, i, *x, sums);
        }
      }
    }
    for (int t = 0; t < T; ++t)
      StoreRows(product.out + t * product.out_stride + row, _mm256_load_ps(sums + t * kRows),
                row_end - row);
  }
}

// ---- many tokens --------------------------------------------------------------------------------

constexpr int kTileVectors = 2;  // With four tokens, as many sums as leave registers for the rest.
constexpr int kTileRows = kTileVectors * kRows;
constexpr int64_t kPanelBatch = 16;  // Panels whose activations stay in the second-level cache.

/// kTileRows rows times up to kPanelBatch panels from `token` on.
template <class Rows>
void MatMat(const Product<Rows>& product, int64_t row, int64_t row_end, int64_t token,
            int64_t tokens) {
  using Format = typename Rows::Format;
  constexpr int64_t kSums = kPanelTokens * kTileRows;  // of a panel
  const auto rows_at = [&](int64_t at) {
    return Rows(*product.weights, Min(at, row_end - 1), row_end);
  };
  Rows rows[kTileVectors] = {rows_at(row), rows_at(row + kRows)};
  Tile<Format, kTileVectors> tile;
  const int64_t panels = (tokens + kPanelTokens - 1) / kPanelTokens;
  alignas(32) float sums[kPanelBatch * kSums];
  __builtin_memset(sums, 0, static_cast<size_t>(panels * kSums) * sizeof(float));
  for (int64_t c = 0; 8 * c < product.groups; ++c) {
    for (int v = 0; v < kTileVectors; ++v) {
      rows[v].Select(c);
      LoadScales(rows[v], v, tile.scales);
      for (int i = 0; i < rows[v].groups(); ++i) {
        rows[v].Prefetch(i);
        if (i % kUnpackedGroups<Rows> == 0) UnpackGroups(rows[v], i, tile, i, v);
      }
    }
    const int groups = rows[0].groups();
    const auto* x = product.activations + token / kPanelTokens * product.groups + 8 * c;
    for (int64_t p = 0; p < panels; ++p, x += product.groups) {
      for (int i = 0; i < groups; ++i)
        MultiplyGroup<Format, kTileVectors, kPanelTokens>(tile, i, i, x[i], sums + p * kSums);
    }
  }
  const int64_t count = Min(kTileRows, row_end - row);
  for (int64_t t = 0; t < tokens; ++t) {
    float* out = product.out + (token + t) * product.out_stride + row;
    const float* panel = sums + t / kPanelTokens * kSums;
    for (int64_t r = 0; r < count; r += kRows)
      StoreRows(out + r, _mm256_load_ps(panel + t % kPanelTokens * kTileRows + r), count - r);
  }
}

using Multiplier = void (*)(const WeightMatrix& weights, int64_t row_begin, int64_t row_end,
                            const std::byte* activations, int64_t tokens, float* out,
                            int64_t out_stride);

template <class Rows>
void Multiply(const WeightMatrix& weights, int64_t row_begin, int64_t row_end,
              const std::byte* activations, int64_t tokens, float* out, int64_t out_stride) {
  const Product<Rows> product = {
      .weights = &weights,
      .activations = reinterpret_cast<const GroupOf<typename Rows::Format>*>(activations),
      .groups = weights.cols / kGroupElements,
      .out = out,
      .out_stride = out_stride,
  };
  switch (tokens) {
    case 1:
      return MatVec<Rows, 1>(product, row_begin, row_end);
    case 2:
      return MatVec<Rows, 2>(product, row_begin, row_end);
    case 3:
      return MatVec<Rows, 3>(product, row_begin, row_end);
    case 4:
      return MatVec<Rows, 4>(product, row_begin, row_end);
    default:
      break;
  }
  constexpr int64_t kBatch = kPanelBatch * kPanelTokens;
  for (int64_t token = 0; token < tokens; token += kBatch) {
    for (int64_t row = row_begin; row < row_end; row += kTileRows)
      MatMat<Rows>(product, row, row_end, token, Min(kBatch, tokens - token));
  }
}

}  // namespace
}  // namespace moxie::avx2
