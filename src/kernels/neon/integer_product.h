#pragma once

#include "kernels/lanes/activation_chunk.h"
#include "kernels/lanes/chunk_of_rows.h"
#include "kernels/lanes/unpack.h"
#include "kernels/neon/eight_lanes.h"

// The product of quantised weights and activations in chunks. For each output, with c the chunks of
// 256 columns and g the scale groups of a chunk, both in order:
//
//   out = sum_c sum_g scale * (x.scale * sum_i (code[i] - offset) * x.value[i])
//                     + min * (x.scale * sum_i x.value[i])
//
// The sums over i are exact integers; the others are float32 in that order, whatever the number of
// tokens and rows, and whatever finds the integers. That is a Unit, of one set's instructions:
//
//   Dot(sum, a, b)     32-bit lanes plus the products of their four signed bytes
//   MultiplyRow(codes, x, sums)   the products of each half of 32 columns (or of all of them),
//   added
//                      up in any lanes; kNarrow: codes have up to six bits, kTellsNarrow: and that
//                      matters to the unit
//   kRowStride, QuadAt(q)   where `Arrange` puts four columns of a row: at QuadAt(q), the next row
//                      kRowStride bytes further on
//   Arrange(codes, out)    32 columns of four rows, for Multiply
//   Block<T>, Multiply     a chunk of T tokens, and its products with what Arrange has written:
//                      integers[h][t] are the sums of half h of 32 columns (of all where there is
//                      one) for token t, a row in each lane

namespace moxie::neon {
namespace {

using lanes::ActivationChunk;
using lanes::kChunkElements;
using lanes::Min;

constexpr int kRows = 4;  // Side by side in a vector.

/// The codes of 32 columns of four rows, less their offset.
struct RowCodes {
  int8x16_t row[kRows][2];
};

template <class Format>
using Rows = lanes::ChunkOfRows<Format, kRows>;

template <class Format>
MOXIE_INLINE RowCodes LoadCodes(const Rows<Format>& rows, int i) {
  RowCodes codes;
  MOXIE_UNROLL
  for (int r = 0; r < kRows; ++r) {
    EightLanes::Ints row = Format::Codes(rows[r], i);
    if constexpr (Format::kOffset != 0)
      row = EightLanes::Sub8(row, EightLanes::Set8(Format::kOffset));
    codes.row[r][0] = vreinterpretq_s8_u8(row.low);
    codes.row[r][1] = vreinterpretq_s8_u8(row.high);
  }
  return codes;
}

/// The scales of a chunk of kRows rows, by groups of the format's size.
struct RowScales {
  alignas(16) float scale[kChunkElements / 16][kRows];
  alignas(16) float min[kChunkElements / 16][kRows];  ///< where the format has them
};

/// out[k] are the lanes k of the four vectors.
MOXIE_INLINE void Transpose(const float32x4_t (&v)[kRows], float32x4_t (&out)[4]) {
  const float32x4_t first02 = vzip1q_f32(v[0], v[2]);
  const float32x4_t second02 = vzip2q_f32(v[0], v[2]);
  const float32x4_t first13 = vzip1q_f32(v[1], v[3]);
  const float32x4_t second13 = vzip2q_f32(v[1], v[3]);
  out[0] = vzip1q_f32(first02, first13);
  out[1] = vzip2q_f32(first02, first13);
  out[2] = vzip1q_f32(second02, second13);
  out[3] = vzip2q_f32(second02, second13);
}

/// to[g] are the numbers g of the four rows.
MOXIE_INLINE void StoreTransposed(const EightLanes::Floats (&rows)[kRows], float (*to)[kRows]) {
  float32x4_t low[4];
  float32x4_t high[4];
  Transpose({rows[0].low, rows[1].low, rows[2].low, rows[3].low}, low);
  Transpose({rows[0].high, rows[1].high, rows[2].high, rows[3].high}, high);
  MOXIE_UNROLL
  for (int k = 0; k < 4; ++k) {
    vst1q_f32(to[k], low[k]);
    vst1q_f32(to[4 + k], high[k]);
  }
}

template <class Format>
MOXIE_INLINE void LoadScales(const Rows<Format>& rows, RowScales& scales) {
  MOXIE_UNROLL
  for (int half = 0; half < 32 / Format::kGroup; ++half) {
    EightLanes::Floats scale[kRows];
    EightLanes::Floats min[kRows];
    MOXIE_UNROLL
    for (int r = 0; r < kRows; ++r) Format::Scales(rows[r], half, scale[r], min[r]);
    StoreTransposed(scale, scales.scale + 8 * half);
    if constexpr (Format::kHasMin) StoreTransposed(min, scales.min + 8 * half);
  }
}

/// `sum` and the terms of scale group `g`, whose integers are exact.
template <int kGroup, bool kHasMin>
MOXIE_INLINE float32x4_t AddGroup(float32x4_t sum, int32x4_t integers, const RowScales& scales,
                                  const ActivationChunk& x, int g) {
  const float32x4_t products = vmulq_n_f32(vcvtq_f32_s32(integers), x.scale[g * kGroup / 32]);
  sum = vfmaq_f32(sum, products, vld1q_f32(scales.scale[g]));
  if constexpr (kHasMin) {
    const float x_sum = (kGroup == 32 ? x.scaled_sums32 : x.scaled_sums16)[g];
    sum = vfmaq_n_f32(sum, vld1q_f32(scales.min[g]), x_sum);
  }
  return sum;
}

/// Adds what the high bytes of columns 32 * i .. do. A row's quad q is at codes + quad_at(q), the
/// next row's `row_stride` bytes further on.
template <class Unit, int kHalves>
MOXIE_INLINE void AddHighProducts(const int8_t* codes, int row_stride, int (*quad_at)(int),
                                  const ActivationChunk& x, int i, int32x4_t (&integers)[kHalves]) {
  const int8_t* quad = codes + quad_at(x.spared[i] & 7);
  int8_t quads[kRows][4];
  MOXIE_UNROLL
  for (int r = 0; r < kRows; ++r) lanes::CopyBytes(quads[r], quad + r * row_stride, 4);
  MOXIE_UNROLL
  for (int h = 0; h < kHalves; ++h) {
    const int32_t high = kHalves == 1 ? x.high32[i] : x.high16[2 * i + h];
    const int32x4_t products =
        Unit::Dot(vdupq_n_s32(0), vld1q_s8(quads[0]), vreinterpretq_s8_s32(vdupq_n_s32(high)));
    integers[h] = vaddq_s32(integers[h], vshlq_n_s32(products, 8));
  }
}

/// Rows as they are read, one after another.
constexpr int kPlainRowStride = 32;
constexpr int PlainQuadAt(int q) { return 4 * q; }

MOXIE_INLINE void StorePlain(const RowCodes& codes, int8_t* out) {
  MOXIE_UNROLL
  for (int r = 0; r < kRows; ++r) {
    vst1q_s8(out + r * kPlainRowStride, codes.row[r][0]);
    vst1q_s8(out + r * kPlainRowStride + 16, codes.row[r][1]);
  }
}

MOXIE_INLINE RowCodes LoadPlain(const int8_t* stored) {
  RowCodes codes;
  MOXIE_UNROLL
  for (int r = 0; r < kRows; ++r) {
    codes.row[r][0] = vld1q_s8(stored + r * kPlainRowStride);
    codes.row[r][1] = vld1q_s8(stored + r * kPlainRowStride + 16);
  }
  return codes;
}

/// The products of 32 columns of four rows and one token's low bytes.
template <class Unit, int kHalves, bool kNarrow>
MOXIE_INLINE void MultiplyRows(const RowCodes& codes, const int8_t* low,
                               int32x4_t (&integers)[kHalves]) {
  const int8x16_t x[2] = {vld1q_s8(low), vld1q_s8(low + 16)};
  int32x4_t sums[kRows][kHalves];
  MOXIE_UNROLL
  for (int r = 0; r < kRows; ++r)
    Unit::template MultiplyRow<kHalves, kNarrow>(codes.row[r], x, sums[r]);
  MOXIE_UNROLL
  for (int h = 0; h < kHalves; ++h) {
    integers[h] =
        vpaddq_s32(vpaddq_s32(sums[0][h], sums[1][h]), vpaddq_s32(sums[2][h], sums[3][h]));
  }
}

template <class Unit, class Format>
constexpr bool kIsNarrow = Unit::kTellsNarrow&& Format::kBits <= 6;

MOXIE_INLINE void StoreRows(float* out, float32x4_t values, int64_t count) {
  if (count >= kRows) {
    vst1q_f32(out, values);
  } else {
    float lanes[kRows];
    vst1q_f32(lanes, values);
    lanes::CopyBytes(out, lanes, count * 4);
  }
}

MOXIE_INLINE int64_t ChunksOf(const WeightMatrix& weights) {
  return (weights.cols + kChunkElements - 1) / kChunkElements;
}

// ---- one token: codes are multiplied as they lie in their rows ----------------------------------

/// The rows times one token.
template <class Unit, class Format>
void MultiplyOneToken(const WeightMatrix& weights, int64_t row_begin, int64_t row_end,
                      const ActivationChunk* x, float* out) {
  constexpr int kHalves = 32 / Format::kGroup;
  Rows<Format> rows(weights, row_begin, row_end);
  RowScales scales;
  for (int64_t row = row_begin; row < row_end; row += kRows) {
    if (row > row_begin) rows.Move(weights, row, row_end);
    float32x4_t sum = vdupq_n_f32(0.0f);
    for (int64_t c = 0; c < ChunksOf(weights); ++c) {
      const ActivationChunk& xc = x[c];
      rows.Select(c);
      LoadScales(rows, scales);
      for (int i = 0; i < rows.groups(); ++i) {
        rows.Prefetch(i);
        const RowCodes codes = LoadCodes(rows, i);
        int32x4_t integers[kHalves];
        MultiplyRows<Unit, kHalves, kIsNarrow<Unit, Format>>(codes, xc.low + 32 * i, integers);
        if ((xc.has_high >> i & 1) != 0) {
          int8_t plain[kRows * kPlainRowStride];
          StorePlain(codes, plain);
          AddHighProducts<Unit, kHalves>(plain, kPlainRowStride, PlainQuadAt, xc, i, integers);
        }
        MOXIE_UNROLL
        for (int h = 0; h < kHalves; ++h) {
          sum = AddGroup<Format::kGroup, Format::kHasMin>(sum, integers[h], scales, xc,
                                                          kHalves * i + h);
        }
      }
    }
    StoreRows(out + row, sum, row_end - row);
  }
}

// ---- many tokens: rows are unpacked once for all ------------------------------------------------

constexpr int kTileVectors = 8;      // Of kRows rows, unpacked together.
constexpr int64_t kTokenBatch = 64;  // Of activations that stay in the second-level cache.

/// A chunk of kRows rows of any format, unpacked.
struct Tile {
  alignas(64) int8_t codes[kChunkElements / 32][kRows * 32];  ///< as Unit::Arrange writes them
  RowScales scales;
  int groups;  ///< how many times 32 columns
};

/// Unpacks chunk `c` of the rows from `row` on; those at and beyond row_end repeat the last one.
template <class Unit, class Format>
void UnpackTile(const WeightMatrix& weights, int64_t row, int64_t row_end, int64_t c, Tile& tile) {
  Rows<Format> rows(weights, row, row_end);
  rows.Select(c);
  LoadScales(rows, tile.scales);
  tile.groups = rows.groups();
  for (int i = 0; i < tile.groups; ++i) {
    rows.Prefetch(i);
    Unit::Arrange(LoadCodes(rows, i), tile.codes[i]);
  }
}

/// sums [T][kRows] += the tile times T tokens' chunks `x`, of which `block` is the unit's form.
template <class Unit, int kGroup, bool kHasMin, bool kNarrow, int T>
MOXIE_INLINE void MultiplyTile(const Tile& tile, const ActivationChunk* const (&x)[T],
                               const typename Unit::template Block<T>& block, uint32_t has_high,
                               float* sums) {
  constexpr int kHalves = 32 / kGroup;
  float32x4_t sum[T];
  MOXIE_UNROLL
  for (int t = 0; t < T; ++t) sum[t] = vld1q_f32(sums + t * kRows);
  for (int i = 0; i < tile.groups; ++i) {
    int32x4_t integers[T][kHalves];
    Unit::template Multiply<kHalves, kNarrow, T>(tile.codes[i], block, i, integers);
    if ((has_high >> i & 1) != 0) {
      MOXIE_UNROLL
      for (int t = 0; t < T; ++t) {
        AddHighProducts<Unit, kHalves>(tile.codes[i], Unit::kRowStride, Unit::QuadAt, *x[t], i,
                                       integers[t]);
      }
    }
    MOXIE_UNROLL
    for (int h = 0; h < kHalves; ++h) {
      MOXIE_UNROLL
      for (int t = 0; t < T; ++t) {
        sum[t] =
            AddGroup<kGroup, kHasMin>(sum[t], integers[t][h], tile.scales, *x[t], kHalves * i + h);
      }
    }
  }
  MOXIE_UNROLL
  for (int t = 0; t < T; ++t) vst1q_f32(sums + t * kRows, sum[t]);
}

/// Tiles times T tokens from `x` on, of which only `tokens` may be there: the last one is repeated.
template <class Unit, int kGroup, bool kHasMin, bool kNarrow, int T>
MOXIE_INLINE void MultiplyBlock(const Tile* tiles, int vectors, const ActivationChunk* x,
                                int64_t x_stride, int64_t tokens, float* sums) {
  const ActivationChunk* chunks[T];
  uint32_t has_high = 0;
  MOXIE_UNROLL
  for (int t = 0; t < T; ++t) {
    chunks[t] = x + Min(t, tokens - 1) * x_stride;
    has_high |= chunks[t]->has_high;
  }
  const typename Unit::template Block<T> block(chunks);
  for (int v = 0; v < vectors; ++v) {
    MultiplyTile<Unit, kGroup, kHasMin, kNarrow, T>(tiles[v], chunks, block, has_high,
                                                    sums + v * kTokenBatch * kRows);
  }
}

/// sums [vectors][kTokenBatch][kRows] += tiles of the same columns times `tokens` tokens.
template <class Unit, int kGroup, bool kHasMin, bool kNarrow>
void MultiplyTokens(const Tile* tiles, int vectors, const ActivationChunk* x, int64_t x_stride,
                    int64_t tokens, float* sums) {
  int64_t t = 0;
  for (; tokens - t > 2; t += 4) {
    MultiplyBlock<Unit, kGroup, kHasMin, kNarrow, 4>(tiles, vectors, x + t * x_stride, x_stride,
                                                     tokens - t, sums + t * kRows);
  }
  if (t < tokens) {
    MultiplyBlock<Unit, kGroup, kHasMin, kNarrow, 2>(tiles, vectors, x + t * x_stride, x_stride,
                                                     tokens - t, sums + t * kRows);
  }
}

/// How a type's rows are multiplied.
struct Multipliers {
  void (*one_token)(const WeightMatrix& weights, int64_t row_begin, int64_t row_end,
                    const ActivationChunk* x, float* out);
  void (*unpack)(const WeightMatrix& weights, int64_t row, int64_t row_end, int64_t c, Tile& tile);
  void (*multiply)(const Tile* tiles, int vectors, const ActivationChunk* x, int64_t x_stride,
                   int64_t tokens, float* sums);
};

template <class Unit>
Multipliers MultipliersOf(DType type) {
  return lanes::ForFormat<EightLanes>(type, []<class Format>(Format) -> Multipliers {
    return {
        .one_token = MultiplyOneToken<Unit, Format>,
        .unpack = UnpackTile<Unit, Format>,
        .multiply = MultiplyTokens<Unit, Format::kGroup, Format::kHasMin, kIsNarrow<Unit, Format>>};
  });
}

/// Up to kTileVectors * kRows rows from `row` on times up to kTokenBatch tokens.
MOXIE_INLINE void MultiplyRowsOf(const Multipliers& format, const WeightMatrix& weights,
                                 int64_t row, int64_t row_end, const ActivationChunk* x,
                                 int64_t tokens, float* out, int64_t out_stride) {
  const int64_t chunks = ChunksOf(weights);
  const int64_t rows = Min(kTileVectors * kRows, row_end - row);
  const int vectors = static_cast<int>((rows + kRows - 1) / kRows);
  Tile tiles[kTileVectors];
  alignas(64) float sums[kTileVectors][kTokenBatch][kRows] = {};
  for (int64_t c = 0; c < chunks; ++c) {
    for (int v = 0; v < vectors; ++v) format.unpack(weights, row + v * kRows, row_end, c, tiles[v]);
    format.multiply(tiles, vectors, x + c, chunks, tokens, &sums[0][0][0]);
  }
  for (int64_t t = 0; t < tokens; ++t) {
    for (int v = 0; v < vectors; ++v) {
      StoreRows(out + t * out_stride + row + v * kRows, vld1q_f32(sums[v][t]), rows - v * kRows);
    }
  }
}

/// KernelSet::matmul for types with an integer product.
template <class Unit>
void MatMulWith(const WeightMatrix& weights, int64_t row_begin, int64_t row_end,
                const std::byte* activations, int64_t tokens, float* out, int64_t out_stride) {
  const auto* x = reinterpret_cast<const ActivationChunk*>(activations);
  const Multipliers format = MultipliersOf<Unit>(weights.type);
  if (tokens == 1) {
    format.one_token(weights, row_begin, row_end, x, out);
    return;
  }
  for (int64_t token = 0; token < tokens; token += kTokenBatch) {
    for (int64_t row = row_begin; row < row_end; row += kTileVectors * kRows) {
      MultiplyRowsOf(format, weights, row, row_end, x + token * ChunksOf(weights),
                     Min(kTokenBatch, tokens - token), out + token * out_stride, out_stride);
    }
  }
}

/// A chunk of T tokens as it is.
template <int T>
struct PlainBlock {
  const int8_t* low[T];

  explicit PlainBlock(const ActivationChunk* const (&x)[T]) {
    MOXIE_UNROLL
    for (int t = 0; t < T; ++t) low[t] = x[t]->low;
  }
};

}  // namespace
}  // namespace moxie::neon
