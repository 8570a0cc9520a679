#pragma once

#include "core/matrix.h"
#include "kernels/avx2/chunk.h"
#include "kernels/avx2/vectors.h"
#include "kernels/x86/chunk_of_rows.h"
#include "kernels/x86/unpack.h"

// The product of quantised weights and activations in chunks, for any format of x86/unpack.h. For
// each output, with c the chunks of 256 columns and g the scale groups of a chunk, both in order:
//
//   out = sum_c sum_g scale * (x.scale * (sum_i code[i] * x.values[i] - offset * sum_i
//   x.values[i]))
//                     + min * (x.scale * sum_i x.values[i])
//
// The sums over i are exact integers; the others are a chain of float32 multiply-adds. MatVec and
// MatMat differ only in how they find the integer sums: bit-equal results.

namespace moxie::avx2 {
namespace {

constexpr int kRows = 8;  // Rows in the lanes of a vector.

/// A product's operands and destination.
struct Product {
  const WeightMatrix* weights;
  const ActivationChunk* activations;
  int64_t chunks;  // of a row of activations
  float* out;
  int64_t out_stride;
};

template <class Format>
using ChunkOfRows = x86::ChunkOfRows<Format, kRows>;

/// Scales and mins of a chunk of 8 rows: [group][row].
struct ChunkScales {
  alignas(32) float scale[kChunkElements / 16 * kRows];
  alignas(32) float min[kChunkElements / 16 * kRows];
};

template <class Format>
MOXIE_INLINE void LoadScales(const ChunkOfRows<Format>& chunk, ChunkScales& scales) {
  for (int half = 0; half < 32 / Format::kGroup; ++half) {
    __m256 scale[kRows];
    __m256 min[kRows];
    MOXIE_UNROLL
    for (int r = 0; r < kRows; ++r) {
      min[r] = _mm256_setzero_ps();
      Format::Scales(chunk[r], half, scale[r], min[r]);
    }
    Transpose8x8(scale);
    if constexpr (Format::kHasMin) Transpose8x8(min);
    MOXIE_UNROLL
    for (int g = 0; g < 8; ++g) {
      _mm256_store_ps(scales.scale + (8 * half + g) * kRows, scale[g]);
      if constexpr (Format::kHasMin) _mm256_store_ps(scales.min + (8 * half + g) * kRows, min[g]);
    }
  }
}

/// `sum` and the terms of group `g` of 8 rows.
template <class Format>
MOXIE_INLINE __m256 AddGroup(__m256 sum, __m256i integers, const float* scale, const float* min,
                             const ActivationChunk& x, int g) {
  constexpr bool kSixteen = Format::kGroup == 16;
  __m256 products = _mm256_cvtepi32_ps(integers);
  if constexpr (Format::kOffset != 0) {
    const __m256 x_sum = _mm256_broadcast_ss((kSixteen ? x.sums16 : x.sums32) + g);
    products = _mm256_fnmadd_ps(x_sum, _mm256_set1_ps(Format::kOffset), products);
  }
  products = _mm256_mul_ps(products, _mm256_broadcast_ss(x.scale + g * Format::kGroup / 32));
  sum = _mm256_fmadd_ps(products, _mm256_load_ps(scale), sum);
  if constexpr (Format::kHasMin) {
    const __m256 x_sum = _mm256_broadcast_ss((kSixteen ? x.scaled_sums16 : x.scaled_sums32) + g);
    sum = _mm256_fmadd_ps(_mm256_load_ps(min), x_sum, sum);
  }
  return sum;
}

/// Writes the first `count` lanes.
MOXIE_INLINE void StoreRows(float* out, __m256 values, int64_t count) {
  if (count >= kRows) {
    _mm256_storeu_ps(out, values);
  } else {
    _mm256_maskstore_ps(out, TailMask(count), values);
  }
}

/// 8 rows times `T` tokens: integer sums by rows, added up over lanes.
template <class Format, int T>
void MatVec(const Product& product, int64_t row, int64_t row_end, int64_t token) {
  ChunkOfRows<Format> chunk(*product.weights, row, row_end);
  ChunkScales scales;
  const ActivationChunk* x = product.activations + token * product.chunks;
  __m256 out[T];
  for (int t = 0; t < T; ++t) out[t] = _mm256_setzero_ps();
  for (int64_t c = 0; c < product.chunks; ++c, ++x) {
    chunk.Select(c);
    LoadScales<Format>(chunk, scales);
    for (int i = 0; i < chunk.groups(); ++i) {
      chunk.Prefetch(i);
      __m256i first[T][4];   // Of rows 2p and 2p + 1: elements 32i..32i+15, or all 32.
      __m256i second[T][4];  // Elements 32i+16..32i+31 where they have scales of their own.
      MOXIE_UNROLL
      for (int p = 0; p < 4; ++p) {
        __m256i a[2];
        __m256i b[2];
        UnpackWords<Format>(chunk[2 * p], i, a[0], a[1]);
        UnpackWords<Format>(chunk[2 * p + 1], i, b[0], b[1]);
        MOXIE_UNROLL
        for (int t = 0; t < T; ++t) {
          const int16_t* values = x[t * product.chunks].values + 32 * i;
          const __m256i x0 = Load256(values);
          const __m256i x1 = Load256(values + 16);
          const __m256i a0 = _mm256_madd_epi16(a[0], x0);
          const __m256i a1 = _mm256_madd_epi16(a[1], x1);
          const __m256i b0 = _mm256_madd_epi16(b[0], x0);
          const __m256i b1 = _mm256_madd_epi16(b[1], x1);
          if constexpr (Format::kGroup == 32) {
            first[t][p] = _mm256_hadd_epi32(_mm256_add_epi32(a0, a1), _mm256_add_epi32(b0, b1));
          } else {
            first[t][p] = _mm256_hadd_epi32(a0, b0);
            second[t][p] = _mm256_hadd_epi32(a1, b1);
          }
        }
      }
      MOXIE_UNROLL
      for (int t = 0; t < T; ++t) {
        const ActivationChunk& xt = x[t * product.chunks];
        const int g = Format::kGroup == 32 ? i : 2 * i;
        const float* scale = scales.scale + g * kRows;
        const float* min = scales.min + g * kRows;
        const __m256i(&f)[4] = first[t];
        out[t] = AddGroup<Format>(out[t], SumLanes(f[0], f[1], f[2], f[3]), scale, min, xt, g);
        if constexpr (Format::kGroup == 16) {
          const __m256i(&s)[4] = second[t];
          out[t] = AddGroup<Format>(out[t], SumLanes(s[0], s[1], s[2], s[3]), scale + kRows,
                                    min + kRows, xt, g + 1);
        }
      }
    }
  }
  for (int t = 0; t < T; ++t) {
    StoreRows(product.out + (token + t) * product.out_stride + row, out[t], row_end - row);
  }
}

// ---- many tokens --------------------------------------------------------------------------------

constexpr int kTileVectors = 2;  // Vectors of 8 rows in a tile.
constexpr int kTileRows = kRows * kTileVectors;
constexpr int kTileTokens = 3;
constexpr int64_t kTokenBatch = 128;

/// A chunk of 16 rows, unpacked once for many tokens: four columns, 8 rows side by side.
struct Tile {
  alignas(32) int8_t codes[kChunkElements / 4][kTileVectors][kRows][4];
  ChunkScales scales[kTileVectors];
  int groups;  // of the format's size

  __m256i Load(int64_t quad, int vector) const {
    return _mm256_load_si256(reinterpret_cast<const __m256i*>(codes[quad][vector]));
  }
};

template <class Format>
void UnpackTile(const ChunkOfRows<Format>& chunk, int vector, Tile& tile) {
  LoadScales<Format>(chunk, tile.scales[vector]);
  tile.groups = chunk.groups() * (32 / Format::kGroup);
  for (int i = 0; i < chunk.groups(); ++i) {
    chunk.Prefetch(i);
    __m256 codes[kRows];
    MOXIE_UNROLL
    for (int r = 0; r < kRows; ++r) codes[r] = _mm256_castsi256_ps(Format::Codes(chunk[r], i));
    Transpose8x8(codes);
    MOXIE_UNROLL
    for (int k = 0; k < 8; ++k) {
      _mm256_store_ps(reinterpret_cast<float*>(tile.codes[8 * i + k][vector]), codes[k]);
    }
  }
}

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

/// integers + code * peak, for the peak of the 32 elements `group`, or of its half `g`.
template <class Format>
MOXIE_INLINE __m256i AddPeak(__m256i integers, const Tile& tile, int vector,
                             const ActivationChunk& x, int g) {
  constexpr int kGroups = 32 / Format::kGroup;  // in 32 elements
  const uint32_t at = x.peak_at[g / kGroups];
  const __m256i codes = tile.Load(at / 4, vector);
  __m256i code = _mm256_shuffle_epi8(codes, Load256(kPickByte[at % 4]));
  if constexpr (Format::kBits == 8) {  // Signed: make the sign reach over 16 bits.
    code = _mm256_srai_epi16(_mm256_slli_epi16(code, 8), 8);
  }
  const int32_t peak = (kGroups == 1 ? x.peak32 : x.peak16)[g];
  return _mm256_add_epi32(integers, _mm256_madd_epi16(code, _mm256_set1_epi32(peak)));
}

/// How many products of codes and bytes add up in 16 bits: 2 n (2^bits - 1) 127 < 2^15.
template <class Format>
constexpr int kProductsInWords = Format::kBits == 4   ? 8
                                 : Format::kBits == 5 ? 4
                                 : Format::kBits == 6 ? 2
                                                      : 1;

/// Four products of a code and an activation in each 32 bits, added in pairs to 16 bits.
template <class Format>
MOXIE_INLINE __m256i MultiplyBytes(__m256i codes, __m256i x) {
  if constexpr (Format::kBits < 8) return _mm256_maddubs_epi16(codes, x);
  return _mm256_maddubs_epi16(_mm256_abs_epi8(codes), _mm256_sign_epi8(x, codes));
}

/// The integer sums of group `g`: a row in each lane, for `T` tokens.
template <class Format, int T>
MOXIE_INLINE void SumGroup(const Tile& tile, const ActivationChunk* x, int64_t x_stride, int g,
                           __m256i (&integers)[T][kTileVectors]) {
  constexpr int kQuads = Format::kGroup / 4;
  constexpr int kRun = kProductsInWords<Format> < kQuads ? kProductsInWords<Format> : kQuads;
  MOXIE_UNROLL
  for (int run = 0; run < kQuads; run += kRun) {
    __m256i words[T][kTileVectors];
    MOXIE_UNROLL
    for (int k = 0; k < kRun; ++k) {
      const int quad = g * kQuads + run + k;
      MOXIE_UNROLL
      for (int t = 0; t < T; ++t) {
        const __m256i x_quad =
            _mm256_set1_epi32(static_cast<int>(LoadU32(x[t * x_stride].small + 4 * quad)));
        MOXIE_UNROLL
        for (int v = 0; v < kTileVectors; ++v) {
          const __m256i products = MultiplyBytes<Format>(tile.Load(quad, v), x_quad);
          words[t][v] = k == 0 ? products : _mm256_add_epi16(words[t][v], products);
          KeepInRegister(words[t][v]);
        }
      }
    }
    MOXIE_UNROLL
    for (int t = 0; t < T; ++t) {
      MOXIE_UNROLL
      for (int v = 0; v < kTileVectors; ++v) {
        const __m256i sums = _mm256_madd_epi16(words[t][v], _mm256_set1_epi16(1));
        integers[t][v] = run == 0 ? sums : _mm256_add_epi32(integers[t][v], sums);
        KeepInRegister(integers[t][v]);
      }
    }
  }
}

/// sums [T][kTileRows] += a tile times `T` tokens: integer sums with a row in each lane.
template <class Format, int T>
void MultiplyTile(const Tile& tile, const ActivationChunk* x, int64_t x_stride, float* sums) {
  __m256 sum[T][kTileVectors];
  MOXIE_UNROLL
  for (int t = 0; t < T; ++t) {
    MOXIE_UNROLL
    for (int v = 0; v < kTileVectors; ++v)
      sum[t][v] = _mm256_load_ps(sums + t * kTileRows + v * kRows);
  }
  for (int g = 0; g < tile.groups; ++g) {
    __m256i integers[T][kTileVectors];
    SumGroup<Format, T>(tile, x, x_stride, g, integers);
    MOXIE_UNROLL
    for (int t = 0; t < T; ++t) {
      const ActivationChunk& xt = x[t * x_stride];
      MOXIE_UNROLL
      for (int v = 0; v < kTileVectors; ++v) {
        const __m256i all = AddPeak<Format>(integers[t][v], tile, v, xt, g);
        const ChunkScales& scales = tile.scales[v];
        sum[t][v] = AddGroup<Format>(sum[t][v], all, scales.scale + g * kRows,
                                     scales.min + g * kRows, xt, g);
      }
    }
  }
  MOXIE_UNROLL
  for (int t = 0; t < T; ++t) {
    MOXIE_UNROLL
    for (int v = 0; v < kTileVectors; ++v)
      _mm256_store_ps(sums + t * kTileRows + v * kRows, sum[t][v]);
  }
}

/// 16 rows times up to kTokenBatch tokens.
template <class Format>
void MatMat(const Product& product, int64_t row, int64_t row_end, int64_t token, int64_t tokens) {
  ChunkOfRows<Format> chunk0(*product.weights, row, row_end);
  ChunkOfRows<Format> chunk1(*product.weights, Min(row + kRows, row_end - 1), row_end);
  Tile tile;
  alignas(32) float sums[kTokenBatch * kTileRows];
  __builtin_memset(sums, 0, sizeof(sums));
  for (int64_t c = 0; c < product.chunks; ++c) {
    chunk0.Select(c);
    UnpackTile<Format>(chunk0, 0, tile);
    chunk1.Select(c);
    UnpackTile<Format>(chunk1, 1, tile);
    const ActivationChunk* x = product.activations + token * product.chunks + c;
    int64_t t = 0;
    for (; t + kTileTokens <= tokens; t += kTileTokens) {
      MultiplyTile<Format, kTileTokens>(tile, x + t * product.chunks, product.chunks,
                                        sums + t * kTileRows);
    }
    for (; t < tokens; ++t) {
      MultiplyTile<Format, 1>(tile, x + t * product.chunks, product.chunks, sums + t * kTileRows);
    }
  }
  for (int64_t t = 0; t < tokens; ++t) {
    const int64_t count = Min(kTileRows, row_end - row);
    CopyBytes(product.out + (token + t) * product.out_stride + row, sums + t * kTileRows,
              count * 4);
  }
}

/// Below this many tokens, unpacking a tile costs more than adding up lanes.
constexpr int64_t kFewTokens = 4;

template <class Format>
void Multiply(const Product& product, int64_t row_begin, int64_t row_end, int64_t tokens) {
  if (tokens >= kFewTokens) {
    for (int64_t token = 0; token < tokens; token += kTokenBatch) {
      for (int64_t row = row_begin; row < row_end; row += kTileRows) {
        MatMat<Format>(product, row, row_end, token, Min(kTokenBatch, tokens - token));
      }
    }
    return;
  }
  for (int64_t row = row_begin; row < row_end; row += kRows) {
    switch (tokens) {
      case 3:
        MatVec<Format, 2>(product, row, row_end, 0);
        MatVec<Format, 1>(product, row, row_end, 2);
        break;
      case 2:
        MatVec<Format, 2>(product, row, row_end, 0);
        break;
      default:
        MatVec<Format, 1>(product, row, row_end, 0);
    }
  }
}

}  // namespace
}  // namespace moxie::avx2
