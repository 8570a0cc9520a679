#include "kernels/amx/bfloat16.h"

#include "kernels/amx/tiles.h"
#include "kernels/amx/unpack_bfloat16.h"

namespace moxie::amx {
namespace {

using x86::Min;

constexpr int kTileRows = 16;                 // Of weights, or of pairs of columns.
constexpr int kTileWords = 16 * 32;           // 1 KiB.
constexpr int kGroups = kChunkElements / 32;  // Tiles that a chunk of 16 rows fills.
constexpr int kBlockRows = 2 * kTileRows;     // Rows that meet each panel together.
// Panels that meet a block of rows before the next one: they stay in the second-level cache.
constexpr int64_t kCachedBytes = 1 << 20;
constexpr int64_t kMostPanels = 8;

// The tiles, by what they hold; the intrinsics take literals. All are full.
#define MOXIE_SUMS_00 0  // [row][token], of the first rows and the first panel
#define MOXIE_SUMS_01 1  // of the first rows and the second panel
#define MOXIE_SUMS_10 2
#define MOXIE_SUMS_11 3
#define MOXIE_ROWS_0 4  // [row][column] of weights
#define MOXIE_ROWS_1 5
#define MOXIE_PANEL_0 6  // [column / 2][token][2] of activations
#define MOXIE_PANEL_1 7

constexpr TileConfiguration FullTiles() {
  TileConfiguration configuration;
  for (int tile = 0; tile < 8; ++tile) configuration.Set(tile, kTileRows, 64);
  return configuration;
}

/// A chunk of kBlockRows rows, tile by tile.
struct UnpackedChunk {
  alignas(64) uint16_t words[2][kGroups][kTileWords];

  uint16_t* Row(int r) { return words[r / kTileRows][0] + r % kTileRows * 32; }
};

/// The sums of a block of rows and a panel: [row][token], twice.
struct PanelSums {
  alignas(64) float sums[2][kTileRows * kPanelTokens];
};

/// Unpacks a chunk little by little, while the matrix unit multiplies the one before it.
template <class Format>
class Unpacker {
 public:
  Unpacker(const WeightMatrix& weights, int64_t row, int64_t row_end)
      : weights_(weights), row_end_(row_end), chunk_(weights, row, row_end) {}

  /// Turns to chunk `c` of the rows from `row` on; it is to be ready after `steps` steps.
  void Select(int64_t row, int64_t c, int steps, UnpackedChunk* to) {
    if (c == 0) chunk_.Move(weights_, row, row_end_);
    chunk_.Select(c);
    to_ = to;
    next_row_ = 0;
    steps_ = steps;
    credit_ = 0;
  }
  void SelectNothing() {
    next_row_ = kBlockRows;
    steps_ = 1;
    credit_ = -kBlockRows * kGroups * kMostPanels;
  }

  __attribute__((always_inline)) void Step() {
    credit_ += kBlockRows;
    for (; credit_ >= steps_ && next_row_ < kBlockRows; credit_ -= steps_) UnpackNext();
  }
  void Finish() {
    while (next_row_ < kBlockRows) UnpackNext();
  }
  int groups() const { return chunk_.groups(); }

 private:
  __attribute__((always_inline)) void UnpackNext() {
    if (next_row_ % 4 == 0) chunk_.Prefetch(next_row_ / 4);
    UnpackRow<Format>(chunk_[next_row_], to_->Row(next_row_), kTileWords);
    ++next_row_;
  }

  const WeightMatrix& weights_;
  int64_t row_end_;
  x86::ChunkOfRows<Format, kBlockRows> chunk_;
  UnpackedChunk* to_ = nullptr;
  int next_row_ = 0, steps_ = 1, credit_ = 0;
};

/// sums += a chunk of weights times `kPanels` panels; from zero where it is the `first`.
template <int kPanels, class Unpacker>
MOXIE_INLINE void MultiplyPanels(const UnpackedChunk& weights, int groups, const uint16_t* x,
                                 int64_t panel_words, bool first, PanelSums* sums, Unpacker& next) {
  constexpr int kRowBytes = 64;
  FinishWrites();
  if (first) {
    _tile_zero(MOXIE_SUMS_00);
    _tile_zero(MOXIE_SUMS_10);
    if constexpr (kPanels == 2) {
      _tile_zero(MOXIE_SUMS_01);
      _tile_zero(MOXIE_SUMS_11);
    }
  } else {
    _tile_loadd(MOXIE_SUMS_00, sums[0].sums[0], kRowBytes);
    _tile_loadd(MOXIE_SUMS_10, sums[0].sums[1], kRowBytes);
    if constexpr (kPanels == 2) {
      _tile_loadd(MOXIE_SUMS_01, sums[1].sums[0], kRowBytes);
      _tile_loadd(MOXIE_SUMS_11, sums[1].sums[1], kRowBytes);
    }
  }
  for (int g = 0; g < groups; ++g) {
    _tile_loadd(MOXIE_ROWS_0, weights.words[0][g], kRowBytes);
    _tile_loadd(MOXIE_PANEL_0, x + g * kTileWords, kRowBytes);
    _tile_dpbf16ps(MOXIE_SUMS_00, MOXIE_ROWS_0, MOXIE_PANEL_0);
    _tile_loadd(MOXIE_ROWS_1, weights.words[1][g], kRowBytes);
    _tile_dpbf16ps(MOXIE_SUMS_10, MOXIE_ROWS_1, MOXIE_PANEL_0);
    if constexpr (kPanels == 2) {
      _tile_loadd(MOXIE_PANEL_1, x + panel_words + g * kTileWords, kRowBytes);
      _tile_dpbf16ps(MOXIE_SUMS_01, MOXIE_ROWS_0, MOXIE_PANEL_1);
      _tile_dpbf16ps(MOXIE_SUMS_11, MOXIE_ROWS_1, MOXIE_PANEL_1);
    }
    next.Step();
  }
  _tile_stored(MOXIE_SUMS_00, sums[0].sums[0], kRowBytes);
  _tile_stored(MOXIE_SUMS_10, sums[0].sums[1], kRowBytes);
  if constexpr (kPanels == 2) {
    _tile_stored(MOXIE_SUMS_01, sums[1].sums[0], kRowBytes);
    _tile_stored(MOXIE_SUMS_11, sums[1].sums[1], kRowBytes);
  }
}

/// Transposes 16 vectors of 16 lanes.
MOXIE_INLINE void Transpose16x16(__m512i (&v)[16]) {
  __m512i quads[4][4];  // [lane of four][vectors of four]
  MOXIE_UNROLL
  for (int j = 0; j < 4; ++j) {
    __m512i lanes[4];
    avx512::TransposeQuads(v[4 * j], v[4 * j + 1], v[4 * j + 2], v[4 * j + 3], lanes);
    MOXIE_UNROLL
    for (int k = 0; k < 4; ++k) quads[k][j] = lanes[k];
  }
  MOXIE_UNROLL
  for (int k = 0; k < 4; ++k) {
    avx512::TransposeQuarters(quads[k]);
    MOXIE_UNROLL
    for (int l = 0; l < 4; ++l) v[4 * l + k] = quads[k][l];
  }
}

/// out[token][row] = sums[row][token]
void StoreSums(const float* sums, int64_t rows, int64_t tokens, float* out, int64_t out_stride) {
  __m512i v[16];
  MOXIE_UNROLL
  for (int r = 0; r < 16; ++r) v[r] = _mm512_load_si512(sums + r * kPanelTokens);
  Transpose16x16(v);
  alignas(64) float by_token[16][16];
  const auto mask = static_cast<__mmask16>((1u << Min(rows, 16)) - 1);
  if (tokens >= kPanelTokens) {
    MOXIE_UNROLL
    for (int t = 0; t < 16; ++t)
      _mm512_mask_storeu_ps(out + t * out_stride, mask, _mm512_castsi512_ps(v[t]));
    return;
  }
  MOXIE_UNROLL
  for (int t = 0; t < 16; ++t) _mm512_store_si512(by_token[t], v[t]);
  for (int64_t t = 0; t < tokens; ++t)
    _mm512_mask_storeu_ps(out + t * out_stride, mask, _mm512_load_ps(by_token[t]));
}

/// Rows [row_begin, row_end) times up to kMostPanels panels. The steps, chunks of blocks of rows,
/// overlap: each unpacks the weights of the next.
template <class Format>
void MultiplyRows(const WeightMatrix& weights, int64_t row_begin, int64_t row_end,
                  const uint16_t* x, int64_t tokens, float* out, int64_t out_stride) {
  const int64_t panel_words = weights.cols * kPanelTokens;
  const int64_t chunks = (weights.cols + kChunkElements - 1) / kChunkElements;
  const int64_t panels = (tokens + kPanelTokens - 1) / kPanelTokens;
  const int pairs = static_cast<int>((panels + 1) / 2);
  UnpackedChunk unpacked[2];
  PanelSums sums[kMostPanels];
  Unpacker<Format> next(weights, row_begin, row_end);
  next.Select(row_begin, 0, 1, &unpacked[0]);
  next.Finish();
  int now = 0;
  for (int64_t row = row_begin; row < row_end; row += kBlockRows) {
    for (int64_t c = 0; c < chunks; ++c, now ^= 1) {
      const int groups = next.groups();
      const bool last = c + 1 == chunks;
      if (!last) {
        next.Select(row, c + 1, pairs * groups, &unpacked[now ^ 1]);
      } else if (row + kBlockRows < row_end) {
        next.Select(row + kBlockRows, 0, pairs * groups, &unpacked[now ^ 1]);
      } else {
        next.SelectNothing();
      }
      for (int64_t p = 0; p < panels; p += 2) {
        const uint16_t* panel = x + p * panel_words + c * kGroups * kTileWords;
        const bool two = p + 1 < panels;
        if (two) {
          MultiplyPanels<2>(unpacked[now], groups, panel, panel_words, c == 0, sums + p, next);
        } else {
          MultiplyPanels<1>(unpacked[now], groups, panel, panel_words, c == 0, sums + p, next);
        }
        if (!last) continue;
        for (int64_t q = p; q < Min(p + 2, panels); ++q) {
          float* to = out + q * kPanelTokens * out_stride + row;
          const int64_t rows = row_end - row, count = tokens - q * kPanelTokens;
          StoreSums(sums[q].sums[0], rows, count, to, out_stride);
          if (rows > kTileRows)
            StoreSums(sums[q].sums[1], rows - kTileRows, count, to + kTileRows, out_stride);
        }
      }
      next.Finish();
    }
  }
}

using Multiplier = void (*)(const WeightMatrix& weights, int64_t row_begin, int64_t row_end,
                            const uint16_t* x, int64_t tokens, float* out, int64_t out_stride);

Multiplier MultiplierOf(DType type) {
  return x86::ForFormat(type,
                        []<class Format>(Format) -> Multiplier { return MultiplyRows<Format>; });
}

}  // namespace

bool HasBfloat16Product(DType type, int64_t cols) {
  return cols % 32 == 0 && MultiplierOf(type) != nullptr;
}

void ConvertPanel(int64_t cols, const float* const* rows, int64_t count, std::byte* out) {
  for (int64_t c = 0; c < cols; c += 32) {
    __m512i v[16];
    MOXIE_UNROLL
    for (int t = 0; t < 16; ++t) {
      v[t] = _mm512_setzero_si512();
      if (t < count)
        v[t] = ToBfloat16(_mm512_loadu_ps(rows[t] + c), _mm512_loadu_ps(rows[t] + c + 16));
    }
    Transpose16x16(v);
    MOXIE_UNROLL
    for (int pair = 0; pair < 16; ++pair) _mm512_storeu_si512(out + (c / 2 + pair) * 64, v[pair]);
  }
}

void Bfloat16MatMul(const WeightMatrix& weights, int64_t row_begin, int64_t row_end,
                    const std::byte* panels, int64_t tokens, float* out, int64_t out_stride) {
  alignas(64) static constexpr TileConfiguration kConfiguration = FullTiles();
  const auto* x = reinterpret_cast<const uint16_t*>(panels);
  const int64_t pair_bytes = weights.cols * kPanelTokens * 2 * 2;
  const int64_t pairs = Min(kMostPanels / 2, 1 + (kCachedBytes - 1) / pair_bytes);
  const int64_t step = pairs * 2 * kPanelTokens;
  const Multiplier multiply = MultiplierOf(weights.type);
  _tile_loadconfig(&kConfiguration);
  for (int64_t t = 0; t < tokens; t += step) {
    multiply(weights, row_begin, row_end, x + t * weights.cols, Min(step, tokens - t),
             out + t * out_stride, out_stride);
  }
  _tile_release();  // Else every switch of threads saves the tiles.
}

}  // namespace moxie::amx
