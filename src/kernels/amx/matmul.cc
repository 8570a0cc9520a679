#include "kernels/amx/amx.h"
#include "kernels/amx/bfloat16.h"
#include "kernels/amx/pairs.h"
#include "kernels/amx/tiles.h"
#include "kernels/avx512/avx512.h"
#include "kernels/avx512/integer_product.h"
#include "kernels/avx512/matmul_integer.h"
#include "kernels/avx512_bf16/pairs.h"

namespace moxie::amx {
namespace {

using avx512::ActivationChunk;
using avx512::kLanes;
using avx512::Tile;

constexpr int kTokens = 16;               // Rows of a tile of activations and of sums.
constexpr int32_t kPanels = 2;            // ActivationFormat::id, after the AVX-512 set's.
constexpr int64_t kLeastPanelTokens = 8;  // Fewer are bound by memory, and exact integers as fast.

// The tiles, by what they hold; the intrinsics take literals.
#define MOXIE_SUMS 0         // [token][row], 32 bits
#define MOXIE_ACTIVATIONS 1  // [token][column], signed bytes: a scale group's low bytes
#define MOXIE_CODES 2        // [quad][row][4], unsigned bytes: avx512::Tile's own layout

template <int kGroup>
constexpr TileConfiguration ConfigurationOf() {
  TileConfiguration configuration;
  configuration.Set(MOXIE_SUMS, kTokens, 4 * kLanes);
  configuration.Set(MOXIE_ACTIVATIONS, kTokens, kGroup);
  configuration.Set(MOXIE_CODES, kGroup / 4, 4 * kLanes);
  return configuration;
}

/// The products of the low bytes of a chunk: 16 tokens times V tiles.
template <int kGroup, int V>
struct LowProducts {
  alignas(64) int32_t sums[avx512::kChunkElements / kGroup][V][kTokens][kLanes];

  void Find(const Tile* tiles, const ActivationChunk* x, int64_t x_stride) {
    FinishWrites();
    const int64_t x_bytes = x_stride * static_cast<int64_t>(sizeof(ActivationChunk));
    for (int g = 0; g < tiles[0].groups; ++g) {
      _tile_loadd(MOXIE_ACTIVATIONS, x->low + g * kGroup, x_bytes);
      for (int v = 0; v < V; ++v) {
        _tile_zero(MOXIE_SUMS);
        _tile_loadd(MOXIE_CODES, tiles[v].codes[g * kGroup / 4], 4 * kLanes);
        _tile_dpbsud(MOXIE_SUMS, MOXIE_ACTIVATIONS, MOXIE_CODES);
        _tile_stored(MOXIE_SUMS, sums[g][v], 4 * kLanes);
      }
    }
  }
};

/// Whole tiles of tokens; see avx512::VectorUnit.
struct TileUnit {
  template <int kGroup, bool kHasMin, int V>
  MOXIE_INLINE int64_t MultiplyMany(const Tile* tiles, int offset, const ActivationChunk* x,
                                    int64_t x_stride, int64_t tokens, float* sums) {
    constexpr int kStep = avx512::kTileTokens;
    constexpr int64_t kStride = V * kLanes;
    alignas(64) static constexpr TileConfiguration kConfiguration = ConfigurationOf<kGroup>();
    if (tokens < kTokens) return 0;
    _tile_loadconfig(&kConfiguration);
    LowProducts<kGroup, V> low;
    int64_t t = 0;
    for (; t + kTokens <= tokens; t += kTokens) {
      low.Find(tiles, x + t * x_stride, x_stride);
      for (int at = 0; at < kTokens; at += kStep) {
        const auto add_low = [&](int g, __m512i(&integers)[kStep][V])
            __attribute__((always_inline)) {
          MOXIE_UNROLL
          for (int i = 0; i < kStep; ++i) {
            MOXIE_UNROLL
            for (int v = 0; v < V; ++v) {
              integers[i][v] =
                  _mm512_add_epi32(integers[i][v], _mm512_load_si512(low.sums[g][v][at + i]));
            }
          }
        };
        avx512::MultiplyTiles<kGroup, kHasMin, V, kStep>(tiles, offset, x + (t + at) * x_stride,
                                                         x_stride, add_low,
                                                         sums + (t + at) * kStride, kStride);
      }
    }
    _tile_release();  // Else every switch of threads saves the tiles.
    return t;
  }
};

}  // namespace

ActivationFormat FormatOfActivations(DType weights, int64_t cols, int64_t tokens) {
  if (HasPairsProduct(weights, cols, tokens)) return avx512_bf16::FormatOfPairs(cols);
  if (tokens < kLeastPanelTokens || !HasBfloat16Product(weights, cols))
    return avx512::FormatOfActivations(weights, cols, tokens);
  return {.id = kPanels, .row_bytes = 2 * cols, .panel = kPanelTokens, .slice = kTileColumns};
}

void ConvertActivations(const ActivationFormat& format, int64_t cols, const float* const* rows,
                        int64_t count, std::byte* out) {
  if (format.id == kPanels) {
    ConvertPanel(cols, rows, count, out);
  } else if (format.id == avx512_bf16::kPairs) {
    avx512_bf16::ConvertPairs(cols, rows, count, out);
  } else {
    avx512::ConvertActivations(format, cols, rows, count, out);
  }
}

void MatMul(const ActivationFormat& format, const WeightMatrix& weights, int64_t row_begin,
            int64_t row_end, const std::byte* activations, int64_t tokens, float* out,
            int64_t out_stride) {
  if (format.id == kPanels) {
    Bfloat16MatMul(weights, row_begin, row_end, activations, tokens, out, out_stride);
  } else if (format.id == avx512_bf16::kPairs) {
    MatMulOfPairs(weights, row_begin, row_end, activations, tokens, out, out_stride);
  } else if (tokens >= kTokens && avx512::HasIntegerProduct(weights.type)) {
    avx512::MatMulWith<TileUnit>(weights, row_begin, row_end, activations, tokens, out, out_stride);
  } else {
    avx512::MatMul(format, weights, row_begin, row_end, activations, tokens, out, out_stride);
  }
}

}  // namespace moxie::amx
