#include "kernels/amx/pairs.h"

#include "kernels/amx/tiles.h"
#include "kernels/avx512/floats.h"
#include "kernels/avx512_bf16/pairs.h"
#include "kernels/lanes/floats.h"

namespace moxie::amx {
namespace {

using avx512::Floats;
using avx512_bf16::kPairBytes;
using avx512_bf16::kPairTokens;
using lanes::CopyBytes;
using lanes::Min;

constexpr int64_t kLanes = 16;
constexpr int64_t kDepth = 32;  // Columns that a tile multiplies and adds up.
constexpr int64_t kTileRowBytes = 64;
constexpr int64_t kPanels = 2;  // That meet two tiles of rows together.

// The tiles, by what they hold; the intrinsics take literals. All are full.
#define MOXIE_SUMS_00 0  // [row][token], of the first rows and the first panel
#define MOXIE_SUMS_01 1  // of the first rows and the second panel
#define MOXIE_SUMS_10 2
#define MOXIE_SUMS_11 3
#define MOXIE_ROWS_0 4  // [row][column] of weights
#define MOXIE_ROWS_1 5
#define MOXIE_PANEL_0 6  // [column / 2][token][2] of activations
#define MOXIE_PANEL_1 7

/// 16 rows from `row` on; those at and beyond row_end repeat the last one.
class Rows {
 public:
  Rows(const WeightMatrix& weights, int64_t row, int64_t row_end)
      : weights_(weights), row_(row), row_end_(row_end) {}

  struct Tile {
    const std::byte* data;
    int64_t stride;
  };

  /// 32 columns from `col` on, good until the next call.
  Tile At(int64_t col) {
    if (row_ + kLanes <= row_end_) return {weights_.row(row_) + 2 * col, weights_.row_stride};
    for (int64_t r = 0; r < kLanes; ++r) {
      CopyBytes(whole_ + r * kTileRowBytes, weights_.row(Min(row_ + r, row_end_ - 1)) + 2 * col,
                kTileRowBytes);
    }
    FinishWrites();
    return {whole_, kTileRowBytes};
  }

 private:
  const WeightMatrix& weights_;
  int64_t row_, row_end_;
  alignas(64) std::byte whole_[kLanes * kTileRowBytes];
};

/// [rows / 16][panel][row][token]
struct Sums {
  alignas(64) float at[2][kPanels][kLanes * kPairTokens];
};

/// Two tiles of rows times two panels, or the same panel twice.
void MultiplyTiles(Rows (&rows)[2], int64_t cols, const std::byte* const (&panels)[kPanels],
                   Sums& sums) {
  _tile_zero(MOXIE_SUMS_00);
  _tile_zero(MOXIE_SUMS_01);
  _tile_zero(MOXIE_SUMS_10);
  _tile_zero(MOXIE_SUMS_11);
  for (int64_t c = 0; c < cols; c += kDepth) {
    const Rows::Tile first = rows[0].At(c), second = rows[1].At(c);
    _tile_loadd(MOXIE_ROWS_0, first.data, first.stride);
    _tile_loadd(MOXIE_ROWS_1, second.data, second.stride);
    for (int64_t part = 0; part < kPairBytes; part += kPairBytes / 2) {
      const int64_t at = c / 2 * kPairBytes + part;
      _tile_loadd(MOXIE_PANEL_0, panels[0] + at, kPairBytes);
      _tile_loadd(MOXIE_PANEL_1, panels[1] + at, kPairBytes);
      _tile_dpbf16ps(MOXIE_SUMS_00, MOXIE_ROWS_0, MOXIE_PANEL_0);
      _tile_dpbf16ps(MOXIE_SUMS_01, MOXIE_ROWS_0, MOXIE_PANEL_1);
      _tile_dpbf16ps(MOXIE_SUMS_10, MOXIE_ROWS_1, MOXIE_PANEL_0);
      _tile_dpbf16ps(MOXIE_SUMS_11, MOXIE_ROWS_1, MOXIE_PANEL_1);
    }
  }
  _tile_stored(MOXIE_SUMS_00, sums.at[0][0], 4 * kPairTokens);
  _tile_stored(MOXIE_SUMS_01, sums.at[0][1], 4 * kPairTokens);
  _tile_stored(MOXIE_SUMS_10, sums.at[1][0], 4 * kPairTokens);
  _tile_stored(MOXIE_SUMS_11, sums.at[1][1], 4 * kPairTokens);
  FinishWrites();
}

/// `rows` of 16 of up to 16 tokens: outputs of a token lie together.
void CopySums(const float* sums, int64_t rows, int64_t tokens, float* out, int64_t out_stride) {
  __m512 v[kLanes];
  MOXIE_UNROLL
  for (int r = 0; r < kLanes; ++r) v[r] = _mm512_load_ps(sums + r * kPairTokens);
  Floats::Transpose(v);
  for (int64_t t = 0; t < Min(tokens, kPairTokens); ++t)
    lanes::StoreUpTo<Floats>(out + t * out_stride, v[t], rows);
}

}  // namespace

bool HasPairsProduct(DType type, int64_t cols, int64_t tokens) {
  return cols % kDepth == 0 && avx512_bf16::TakesPairs(type, cols, tokens);
}

void MatMulOfPairs(const WeightMatrix& weights, int64_t row_begin, int64_t row_end,
                   const std::byte* panels, int64_t tokens, float* out, int64_t out_stride) {
  alignas(64) static constexpr TileConfiguration kConfiguration = FullTiles();
  const int64_t panel_bytes = weights.cols / 2 * kPairBytes;
  const int64_t step = avx512_bf16::TokensAtOnce(weights.cols, kPanels);
  Sums sums;
  FinishWrites();
  _tile_loadconfig(&kConfiguration);
  for (int64_t begin = 0; begin < tokens; begin += step) {
    const int64_t end = Min(begin + step, tokens);
    for (int64_t row = row_begin; row < row_end; row += 2 * kLanes) {
      Rows rows[2] = {{weights, row, row_end}, {weights, row + kLanes, row_end}};
      for (int64_t t = begin; t < end; t += kPanels * kPairTokens) {
        const std::byte* first = panels + t / kPairTokens * panel_bytes;
        const std::byte* second = t + kPairTokens < end ? first + panel_bytes : first;
        MultiplyTiles(rows, weights.cols, {first, second}, sums);
        for (int64_t v = 0; v < 2; ++v) {
          for (int64_t p = 0; p < kPanels; ++p) {
            const int64_t token = t + p * kPairTokens, first_row = row + v * kLanes;
            if (token < end && first_row < row_end) {
              CopySums(sums.at[v][p], row_end - first_row, end - token,
                       out + token * out_stride + first_row, out_stride);
            }
          }
        }
      }
    }
  }
  _tile_release();  // Else every switch of threads saves the tiles.
}

}  // namespace moxie::amx
