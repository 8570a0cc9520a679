#pragma once

#include "kernels/avx512/packed.h"

// The product of quantised weights and activations in chunks. For each output, with c the chunks of
// 256 columns, k the 32 columns of an activation scale and g the weights' scale groups in them, all
// in order:
//
//   out = sum_c sum_k x.scale * sum_g scale * sum_i (code[i] - offset) * x.value[i]
//                     + sum_g min * (x.scale * sum_i x.value[i])
//
// The sums over i are exact integers; the others are float32 in that order, whatever the number of
// tokens and rows, and whatever finds the integers: for one token one_token.h, for several a Unit,
// which is VectorUnit here and tiles in kernels/amx/.

namespace moxie::avx512 {
namespace {

using x86::Min;

constexpr int kTileVectors = 3;  // Tiles that are multiplied together.
constexpr int kTileTokens = 4;
constexpr int64_t kTokenBatch = 128;

MOXIE_INLINE __m512i Broadcast(const void* p) {
  return _mm512_set1_epi32(static_cast<int>(x86::LoadU32(p)));
}

/// Adds what the high bytes of group `g` of `V` tiles and `T` tokens do: a row in each lane.
template <int kGroup, int V, int T>
MOXIE_INLINE void AddHighProducts(const Tile* tiles, const ActivationChunk* x, int64_t x_stride,
                                  int g, __m512i (&sums)[T][V]) {
  MOXIE_UNROLL
  for (int t = 0; t < T; ++t) {
    const ActivationChunk& xt = x[t * x_stride];
    const int32_t quad = xt.spared[g * kGroup / 32];
    const __m512i high = Broadcast((kGroup == 32 ? xt.high32 : xt.high16) + g);
    MOXIE_UNROLL
    for (int v = 0; v < V; ++v) {
      const __m512i products =
          _mm512_dpbusd_epi32(_mm512_setzero_si512(), tiles[v].Codes(quad), high);
      sums[t][v] = _mm512_add_epi32(sums[t][v], _mm512_slli_epi32(products, 8));
    }
  }
}

/// Adds the products of the low bytes.
template <int kGroup, int V, int T>
MOXIE_INLINE void AddLowProducts(const Tile* tiles, const ActivationChunk* x, int64_t x_stride,
                                 int g, __m512i (&sums)[T][V]) {
  constexpr int kQuads = kGroup / 4;
  MOXIE_UNROLL
  for (int k = 0; k < kQuads; ++k) {
    const int quad = g * kQuads + k;
    __m512i codes[V];
    MOXIE_UNROLL
    for (int v = 0; v < V; ++v) codes[v] = tiles[v].Codes(quad);
    MOXIE_UNROLL
    for (int t = 0; t < T; ++t) {
      const __m512i low = Broadcast(x[t * x_stride].low + 4 * quad);
      MOXIE_UNROLL
      for (int v = 0; v < V; ++v) sums[t][v] = _mm512_dpbusd_epi32(sums[t][v], codes[v], low);
    }
  }
}

/// sums [T][V * kLanes] += `V` tiles of the same rows' next chunk times `T` tokens, where
/// add_low(g, integers) adds the products of the low bytes.
template <int kGroup, bool kHasMin, int V, int T, class AddLow>
MOXIE_INLINE void MultiplyTiles(const Tile* tiles, int offset, const ActivationChunk* x,
                                int64_t x_stride, AddLow add_low, float* sums,
                                int64_t sums_stride) {
  alignas(64) int32_t start[T][16];  // What the offsets subtract.
  __m512 sum[T][V];
  uint32_t has_high = 0;
  MOXIE_UNROLL
  for (int t = 0; t < T; ++t) {
    const ActivationChunk& xt = x[t * x_stride];
    const __m512i x_sums = kGroup == 16 ? _mm512_loadu_si512(xt.sums16)
                                        : _mm512_castsi256_si512(x86::Load256(xt.sums32));
    _mm512_store_si512(start[t], _mm512_mullo_epi32(x_sums, _mm512_set1_epi32(-offset)));
    has_high |= xt.has_high;
    MOXIE_UNROLL
    for (int v = 0; v < V; ++v) sum[t][v] = _mm512_load_ps(sums + t * sums_stride + v * kLanes);
  }
  constexpr int kHalves = 32 / kGroup;
  for (int i = 0; kHalves * i < tiles[0].groups; ++i) {  // 32 columns have one activation scale.
    __m512 terms[T][V];
    MOXIE_UNROLL
    for (int h = 0; h < kHalves; ++h) {
      const int g = kHalves * i + h;
      __m512i integers[T][V];
      MOXIE_UNROLL
      for (int t = 0; t < T; ++t) {
        MOXIE_UNROLL
        for (int v = 0; v < V; ++v) integers[t][v] = Broadcast(start[t] + g);
      }
      if ((has_high >> i & 1) != 0)  // First: that leaves more registers.
        AddHighProducts<kGroup, V, T>(tiles, x, x_stride, g, integers);
      add_low(g, integers);
      MOXIE_UNROLL
      for (int t = 0; t < T; ++t) {
        MOXIE_UNROLL
        for (int v = 0; v < V; ++v) {
          const __m512 floats = _mm512_cvtepi32_ps(integers[t][v]);
          const __m512 scale = tiles[v].scales.Scale(g);
          terms[t][v] =
              h == 0 ? _mm512_mul_ps(floats, scale) : _mm512_fmadd_ps(floats, scale, terms[t][v]);
        }
      }
    }
    MOXIE_UNROLL
    for (int t = 0; t < T; ++t) {
      const ActivationChunk& xt = x[t * x_stride];
      const __m512 x_scale = _mm512_set1_ps(xt.scale[i]);
      MOXIE_UNROLL
      for (int v = 0; v < V; ++v) {
        sum[t][v] = _mm512_fmadd_ps(terms[t][v], x_scale, sum[t][v]);
        if constexpr (kHasMin) {
          MOXIE_UNROLL
          for (int h = 0; h < kHalves; ++h) {
            const int g = kHalves * i + h;
            const float x_sum = (kHalves == 2 ? xt.scaled_sums16 : xt.scaled_sums32)[g];
            sum[t][v] = _mm512_fmadd_ps(tiles[v].scales.Min(g), _mm512_set1_ps(x_sum), sum[t][v]);
          }
        }
      }
    }
  }
  MOXIE_UNROLL
  for (int t = 0; t < T; ++t) {
    MOXIE_UNROLL
    for (int v = 0; v < V; ++v) _mm512_store_ps(sums + t * sums_stride + v * kLanes, sum[t][v]);
  }
}

/// MultiplyTiles with products of this set's own.
template <int kGroup, bool kHasMin, int V, int T>
MOXIE_INLINE void MultiplyVectors(const Tile* tiles, int offset, const ActivationChunk* x,
                                  int64_t x_stride, float* sums, int64_t sums_stride) {
  const auto add_low = [=](int g, __m512i(&integers)[T][V]) __attribute__((always_inline)) {
    AddLowProducts<kGroup, V, T>(tiles, x, x_stride, g, integers);
  };
  MultiplyTiles<kGroup, kHasMin, V, T>(tiles, offset, x, x_stride, add_low, sums, sums_stride);
}

/// No unit but the vectors: MultiplyMany says how many of the tokens it has taken.
struct VectorUnit {
  template <int kGroup, bool kHasMin, int V>
  MOXIE_INLINE int64_t MultiplyMany(const Tile*, int, const ActivationChunk*, int64_t, int64_t,
                                    float*) {
    return 0;
  }
};

template <class Unit, int kGroup, bool kHasMin, int V>
void MultiplyTokens(const Tile* tiles, int offset, const ActivationChunk* x, int64_t x_stride,
                    int64_t tokens, float* sums) {
  constexpr int64_t kStride = V * kLanes;
  int64_t t =
      Unit::template MultiplyMany<kGroup, kHasMin, V>(tiles, offset, x, x_stride, tokens, sums);
  for (; t + kTileTokens <= tokens; t += kTileTokens) {
    MultiplyVectors<kGroup, kHasMin, V, kTileTokens>(tiles, offset, x + t * x_stride, x_stride,
                                                     sums + t * kStride, kStride);
  }
  for (; t < tokens; ++t) {
    MultiplyVectors<kGroup, kHasMin, V, 1>(tiles, offset, x + t * x_stride, x_stride,
                                           sums + t * kStride, kStride);
  }
}

/// What the loops know of a format.
struct Unpacking {
  void (*unpack)(const WeightMatrix& weights, int64_t row, int64_t row_end, int64_t chunk,
                 Tile& tile);
  int offset;
  /// By 1 to kTileVectors tiles.
  void (*multiply[kTileVectors])(const Tile* tiles, int offset, const ActivationChunk* x,
                                 int64_t x_stride, int64_t tokens, float* sums);
};

/// UnpackTile; null where rows are never packed.
template <class Format, bool kPacked>
constexpr auto kUnpackTile = [] {
  using Stored = x86::ChunkOfRows<Format, kLanes>;
  if constexpr (!kPacked)
    return UnpackTile<Format, Stored>;
  else if constexpr (IsPacked<Format>)
    return UnpackTile<Format, PackedRows<Format>>;
  else
    return decltype(&UnpackTile<Format, Stored>){};
}();

template <class Unit>
Unpacking UnpackingOf(const WeightMatrix& weights) {
  const bool packed = weights.packed_rows != 0;
  return x86::ForFormat(weights.type, [packed]<class Format>(Format) -> Unpacking {
    return {.unpack = packed ? kUnpackTile<Format, true> : kUnpackTile<Format, false>,
            .offset = kUnsignedOffset<Format>,
            .multiply = {MultiplyTokens<Unit, Format::kGroup, Format::kHasMin, 1>,
                         MultiplyTokens<Unit, Format::kGroup, Format::kHasMin, 2>,
                         MultiplyTokens<Unit, Format::kGroup, Format::kHasMin, 3>}};
  });
}

/// Up to kTileVectors * kLanes rows from `row` on times up to kTokenBatch tokens.
MOXIE_INLINE void MultiplyRows(const Unpacking& format, const WeightMatrix& weights, int64_t row,
                               int64_t row_end, const ActivationChunk* x, int64_t tokens,
                               float* out, int64_t out_stride) {
  const int64_t chunks = (weights.cols + kChunkElements - 1) / kChunkElements;
  const int64_t rows = Min(kTileVectors * kLanes, row_end - row);
  const int vectors = static_cast<int>((rows + kLanes - 1) / kLanes);
  Tile tiles[kTileVectors];
  alignas(64) float sums[kTokenBatch * kTileVectors * kLanes];
  __builtin_memset(sums, 0, static_cast<size_t>(tokens * vectors * kLanes) * sizeof(float));
  for (int64_t t = 0; t < tokens; ++t) {  // Where the results go is far apart and not cached.
    for (int64_t r = 0; r < rows; r += kLanes) {
      __builtin_prefetch(out + t * out_stride + row + r, 1, 2);
    }
  }
  for (int64_t c = 0; c < chunks; ++c) {
    for (int v = 0; v < vectors; ++v) {
      format.unpack(weights, row + v * kLanes, row_end, c, tiles[v]);
    }
    format.multiply[vectors - 1](tiles, format.offset, x + c, chunks, tokens, sums);
  }
  for (int64_t t = 0; t < tokens; ++t) {  // A copy of unknown length would be a slow instruction.
    for (int64_t r = 0; r < rows; r += kLanes) {
      StoreRows(out + t * out_stride + row + r, _mm512_load_ps(sums + t * vectors * kLanes + r),
                rows - r);
    }
  }
}

/// KernelSet::matmul for several tokens and types with an integer product.
template <class Unit>
void MatMulWith(const WeightMatrix& weights, int64_t row_begin, int64_t row_end,
                const std::byte* activations, int64_t tokens, float* out, int64_t out_stride) {
  const auto* x = reinterpret_cast<const ActivationChunk*>(activations);
  const int64_t chunks = (weights.cols + kChunkElements - 1) / kChunkElements;
  const Unpacking format = UnpackingOf<Unit>(weights);
  for (int64_t token = 0; token < tokens; token += kTokenBatch) {
    for (int64_t row = row_begin; row < row_end; row += kTileVectors * kLanes) {
      MultiplyRows(format, weights, row, row_end, x + token * chunks,
                   Min(kTokenBatch, tokens - token), out + token * out_stride, out_stride);
    }
  }
}

}  // namespace
}  // namespace moxie::avx512
