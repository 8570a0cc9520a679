#include "kernels/amx/bfloat16.h"

#include <type_traits>

#include "kernels/amx/tiles.h"
#include "kernels/amx/unpack_bfloat16.h"
#include "kernels/avx512/matmul_integer.h"

namespace moxie::amx {
namespace {

using x86::kChunkElements;
using x86::Min;

constexpr int kTileWords = 16 * 32;  // 1 KiB.
constexpr int kTileRowBytes = 64;
constexpr int kGroups = kChunkElements / 32;  // Tiles that a chunk of 16 rows fills.
constexpr int kBlockRows = 2 * kLanes;        // Rows that meet each panel together.
// Panels that meet a block of rows before the next one: they stay in the second-level cache.
constexpr int64_t kCachedBytes = 1 << 20;
constexpr int64_t kMostPanels = 32;

// The tiles, by what they hold; the intrinsics take literals. All are full.
#define MOXIE_SUMS_00 0  // [token][row], of the first panel and the first rows
#define MOXIE_SUMS_01 1  // of the first panel and the second rows
#define MOXIE_SUMS_10 2
#define MOXIE_SUMS_11 3
#define MOXIE_PANEL_0 4  // [token][column] of activations
#define MOXIE_PANEL_1 5
#define MOXIE_ROWS_0 6  // [column / 2][row][2] of weights
#define MOXIE_ROWS_1 7

/// A chunk of kBlockRows rows, tile by tile.
struct UnpackedChunk {
  alignas(64) uint16_t words[2][kGroups][kTileWords];
};

/// The sums of a panel and a block of rows, on their way through the chunks.
struct PanelSums {
  alignas(64) float sums[2][kPanelTokens * kLanes];
};

struct Nothing {
  template <class T>
  MOXIE_MEMBER explicit Nothing(const T&) {}
};

/// 16 rows of 32 columns to be unpacked, quad by quad. The stored rows' codes have to be transposed
/// before; packed ones are read as they are needed.
template <class Format, class Rows>
class Unit {
 public:
  MOXIE_MEMBER Unit(const Rows& rows, int i, const RowScales& scales, uint8_t (&codes)[8][64],
                    uint16_t* out)
      : rows_(rows),
        codes_(codes),
        scale_(scales.scale[i * kGroups]),
        min_(scales.min[i * kGroups]),
        out_(out),
        i_(i) {
    rows.Prefetch(i);
    if constexpr (!Rows::kPacked) {
      __m512i quads[8];
      avx512::LoadCodes(rows, i, quads);
      MOXIE_UNROLL
      for (int q = 0; q < 8; ++q) _mm512_store_si512(codes[q], quads[q]);
    }
  }

  /// Quads kQuad .. kQuad + kCount - 1, of 8.
  template <int kQuad, int kCount>
  MOXIE_MEMBER void Unpack() const {
    __m512i codes[8];
    if constexpr (Rows::kPacked) {
      avx512::LoadCodes(rows_, i_, codes);  // What is not used is not loaded.
    } else {
      MOXIE_UNROLL
      for (int q = 0; q < 8; ++q) codes[q] = _mm512_load_si512(codes_[q]);
    }
    MOXIE_UNROLL
    for (int q = kQuad; q < kQuad + kCount; ++q) {
      const int g = q * 4 / Format::kGroup;
      const __m512 zero = kHasZero<Format> ? _mm512_load_ps(min_ + g * kLanes) : __m512{};
      UnpackQuad<Format>(codes[q], _mm512_load_ps(scale_ + g * kLanes), zero,
                         out_ + q * 4 * kLanes);
    }
  }

 private:
  static constexpr int kGroups = 32 / Format::kGroup;
  using HeldRows = std::conditional_t<Rows::kPacked, Rows, Nothing>;

  HeldRows rows_;
  const uint8_t (&codes_)[8][64];
  const float* scale_;
  const float* min_;
  uint16_t* out_;
  int i_;
};

/// Unpacks a chunk unit by unit, while the matrix unit multiplies the one before it.
template <class Format, class Rows>
class Unpacker {
 public:
  Unpacker(const WeightMatrix& weights, int64_t row, int64_t row_end)
      : weights_(weights),
        row_end_(row_end),
        rows_{{weights, row, row_end}, {weights, row + kLanes, row_end}} {}

  /// Turns to chunk `c` of the rows from `row` on; about one unit of it is due in `rounds` / (its
  /// units) calls of IsDue.
  void Select(int64_t row, int64_t c, int rounds, UnpackedChunk* to) {
    for (int v = 0; v < 2; ++v) {
      if (c == 0) rows_[v].Move(weights_, row + v * kLanes, row_end_);
      rows_[v].Select(c);
      LoadScalesAndZeros<Format>(rows_[v], scales_[v]);
    }
    to_ = to;
    next_ = 0;
    end_ = 2 * rows_[0].groups();
    rounds_ = rounds;
    credit_ = 0;
  }
  void SelectNothing() { next_ = end_; }
  int groups() const { return rows_[0].groups(); }

  MOXIE_MEMBER bool IsDue() {
    credit_ += end_;
    if (credit_ < rounds_ || next_ >= end_) return false;
    credit_ -= rounds_;
    return true;
  }
  MOXIE_MEMBER Unit<Format, Rows> Take() {
    const int v = next_ % 2, i = next_ / 2;
    ++next_;
    return {rows_[v], i, scales_[v], codes_, to_->words[v][i]};
  }
  void Finish() {
    while (next_ < end_) Take().template Unpack<0, 8>();
  }

 private:
  const WeightMatrix& weights_;
  int64_t row_end_;
  Rows rows_[2];
  RowScales scales_[2];
  alignas(64) uint8_t codes_[8][64];
  UnpackedChunk* to_ = nullptr;
  int next_ = 0, end_ = 0, rounds_ = 1, credit_ = 0;
};

struct NoUnit {
  template <int kQuad, int kCount>
  MOXIE_MEMBER void Unpack() const {}
};

/// The turn from a pair of panels to the next one: whose sums leave the tiles, and whose come.
struct Turn {
  PanelSums* from;
  const PanelSums* to;
  bool to_zero;  // No sums yet.
};

#define MOXIE_LOAD_SUMS(tile, at, v) _tile_loadd(tile, (at).sums[v], kTileRowBytes)
#define MOXIE_STORE_SUMS(tile, at, v) _tile_stored(tile, (at).sums[v], kTileRowBytes)
#define MOXIE_TURN(tile, p, v)               \
  if constexpr (kTurn) {                     \
    MOXIE_STORE_SUMS(tile, turn.from[p], v); \
    if (turn.to_zero) {                      \
      _tile_zero(tile);                      \
    } else {                                 \
      MOXIE_LOAD_SUMS(tile, turn.to[p], v);  \
    }                                        \
  }

/// 32 columns of two blocks of rows and two panels. Half of a unit, from kQuad on, is unpacked
/// between the products: few instructions at a time, for when those fill the scheduler the matrix
/// unit waits. Panels stream past the nearest cache, where the weights are to stay. Each tile of
/// sums turns just before its first product.
template <bool kTurn, int kQuad, class Unit>
MOXIE_INLINE void MultiplyColumns(const uint16_t* rows, const uint16_t* x, int64_t panel_words,
                                  const Unit& unit, const Turn& turn) {
  _tile_stream_loadd(MOXIE_PANEL_0, x, kTileRowBytes);
  _tile_loadd(MOXIE_ROWS_0, rows, kTileRowBytes);
  MOXIE_TURN(MOXIE_SUMS_00, 0, 0)
  _tile_dpbf16ps(MOXIE_SUMS_00, MOXIE_PANEL_0, MOXIE_ROWS_0);
  unit.template Unpack<kQuad, 1>();
  _tile_loadd(MOXIE_ROWS_1, rows + kGroups * kTileWords, kTileRowBytes);
  MOXIE_TURN(MOXIE_SUMS_01, 0, 1)
  _tile_dpbf16ps(MOXIE_SUMS_01, MOXIE_PANEL_0, MOXIE_ROWS_1);
  unit.template Unpack<kQuad + 1, 1>();
  _tile_stream_loadd(MOXIE_PANEL_1, x + panel_words, kTileRowBytes);
  MOXIE_TURN(MOXIE_SUMS_10, 1, 0)
  _tile_dpbf16ps(MOXIE_SUMS_10, MOXIE_PANEL_1, MOXIE_ROWS_0);
  unit.template Unpack<kQuad + 2, 1>();
  MOXIE_TURN(MOXIE_SUMS_11, 1, 1)
  _tile_dpbf16ps(MOXIE_SUMS_11, MOXIE_PANEL_1, MOXIE_ROWS_1);
  unit.template Unpack<kQuad + 3, 1>();
}

/// Twice as many columns, and a unit if it is due.
template <bool kTurn, class Unpacker>
MOXIE_INLINE void MultiplyRound(const uint16_t* rows, const uint16_t* x, int64_t panel_words,
                                Unpacker& next, const Turn& turn) {
  if (next.IsDue()) {
    const auto unit = next.Take();
    MultiplyColumns<kTurn, 0>(rows, x, panel_words, unit, turn);
    MultiplyColumns<false, 4>(rows + kTileWords, x + kTileWords, panel_words, unit, turn);
  } else {
    MultiplyColumns<kTurn, 0>(rows, x, panel_words, NoUnit(), turn);
    MultiplyColumns<false, 4>(rows + kTileWords, x + kTileWords, panel_words, NoUnit(), turn);
  }
}

/// sums += a chunk of a block of rows times pairs of panels from `x` on; from zero where it is the
/// `first`.
template <class Unpacker>
MOXIE_INLINE void MultiplyPairs(const UnpackedChunk& weights, int groups, const uint16_t* x,
                                int64_t panel_words, int64_t pairs, bool first, Unpacker& next,
                                PanelSums* sums) {
  Turn turn = {.from = nullptr, .to = nullptr, .to_zero = first};
  if (first) {
    _tile_zero(MOXIE_SUMS_00);
    _tile_zero(MOXIE_SUMS_01);
    _tile_zero(MOXIE_SUMS_10);
    _tile_zero(MOXIE_SUMS_11);
  } else {
    MOXIE_LOAD_SUMS(MOXIE_SUMS_00, sums[0], 0);
    MOXIE_LOAD_SUMS(MOXIE_SUMS_01, sums[0], 1);
    MOXIE_LOAD_SUMS(MOXIE_SUMS_10, sums[1], 0);
    MOXIE_LOAD_SUMS(MOXIE_SUMS_11, sums[1], 1);
  }
  for (int64_t p = 0; p < pairs; ++p, x += 2 * panel_words) {
    const uint16_t* rows = weights.words[0][0];
    const uint16_t* panel = x;
    int g = 0;
    if (p > 0) {
      turn.from = sums + 2 * p - 2;
      turn.to = sums + 2 * p;
      if (groups >= 2) {
        MultiplyRound<true>(rows, panel, panel_words, next, turn);
        g = 2;
      } else {
        MultiplyColumns<true, 0>(rows, panel, panel_words, NoUnit(), turn);
        g = 1;
      }
    }
    for (; g + 2 <= groups; g += 2)
      MultiplyRound<false>(rows + g * kTileWords, panel + g * kTileWords, panel_words, next, turn);
    if (g < groups) {
      MultiplyColumns<false, 0>(rows + g * kTileWords, panel + g * kTileWords, panel_words,
                                NoUnit(), turn);
    }
  }
  PanelSums* last = sums + 2 * pairs - 2;
  MOXIE_STORE_SUMS(MOXIE_SUMS_00, last[0], 0);
  MOXIE_STORE_SUMS(MOXIE_SUMS_01, last[0], 1);
  MOXIE_STORE_SUMS(MOXIE_SUMS_10, last[1], 0);
  MOXIE_STORE_SUMS(MOXIE_SUMS_11, last[1], 1);
}

/// The same of a single panel.
MOXIE_INLINE void MultiplyPanel(const UnpackedChunk& weights, int groups, const uint16_t* x,
                                bool first, PanelSums& sums) {
  if (first) {
    _tile_zero(MOXIE_SUMS_00);
    _tile_zero(MOXIE_SUMS_01);
  } else {
    MOXIE_LOAD_SUMS(MOXIE_SUMS_00, sums, 0);
    MOXIE_LOAD_SUMS(MOXIE_SUMS_01, sums, 1);
  }
  for (int g = 0; g < groups; ++g) {
    _tile_loadd(MOXIE_PANEL_0, x + g * kTileWords, kTileRowBytes);
    _tile_loadd(MOXIE_ROWS_0, weights.words[0][g], kTileRowBytes);
    _tile_dpbf16ps(MOXIE_SUMS_00, MOXIE_PANEL_0, MOXIE_ROWS_0);
    _tile_loadd(MOXIE_ROWS_1, weights.words[1][g], kTileRowBytes);
    _tile_dpbf16ps(MOXIE_SUMS_01, MOXIE_PANEL_0, MOXIE_ROWS_1);
  }
  MOXIE_STORE_SUMS(MOXIE_SUMS_00, sums, 0);
  MOXIE_STORE_SUMS(MOXIE_SUMS_01, sums, 1);
}

/// A row of a tile far apart from the next is stored faster by vectors than by _tile_stored.
void CopySums(const PanelSums& sums, int64_t rows, int64_t tokens, float* out, int64_t out_stride) {
  for (int64_t t = 0; t < Min(tokens, kPanelTokens); ++t) {
    for (int v = 0; v < 2 && v * kLanes < rows; ++v) {
      avx512::StoreRows(out + t * out_stride + v * kLanes,
                        _mm512_load_ps(sums.sums[v] + t * kLanes), rows - v * kLanes);
    }
  }
}

/// Rows [row_begin, row_end) times up to kMostPanels panels. The steps, chunks of blocks of rows,
/// overlap: each unpacks the weights of the next.
template <class Format, class Rows>
void MultiplyRows(const WeightMatrix& weights, int64_t row_begin, int64_t row_end,
                  const uint16_t* x, int64_t tokens, float* out, int64_t out_stride) {
  const int64_t panel_words = weights.cols * kPanelTokens;
  const int64_t chunks = (weights.cols + kChunkElements - 1) / kChunkElements;
  const int64_t panels = (tokens + kPanelTokens - 1) / kPanelTokens;
  const int64_t pairs = panels / 2;
  UnpackedChunk unpacked[2];
  PanelSums sums[kMostPanels];
  Unpacker<Format, Rows> next(weights, row_begin, row_end);
  next.Select(row_begin, 0, 1, &unpacked[0]);
  next.Finish();
  int now = 0;
  for (int64_t row = row_begin; row < row_end; row += kBlockRows) {
    for (int64_t c = 0; c < chunks; ++c, now ^= 1) {
      const int groups = next.groups();
      const int rounds = static_cast<int>(pairs) * (groups / 2);
      const bool last = c + 1 == chunks;
      if (!last) {
        next.Select(row, c + 1, rounds, &unpacked[now ^ 1]);
      } else if (row + kBlockRows < row_end) {
        next.Select(row + kBlockRows, 0, rounds, &unpacked[now ^ 1]);
      } else {
        next.SelectNothing();
      }
      const uint16_t* panel = x + c * kGroups * kTileWords;
      FinishWrites();
      if (pairs > 0) {
        MultiplyPairs(unpacked[now], groups, panel, panel_words, pairs, c == 0, next, sums);
      }
      if (panels % 2 != 0) {
        MultiplyPanel(unpacked[now], groups, panel + 2 * pairs * panel_words, c == 0,
                      sums[panels - 1]);
      }
      FinishWrites();
      for (int64_t p = 0; last && p < panels; ++p) {
        CopySums(sums[p], row_end - row, tokens - p * kPanelTokens,
                 out + p * kPanelTokens * out_stride + row, out_stride);
      }
      next.Finish();
    }
  }
}

using Multiplier = void (*)(const WeightMatrix& weights, int64_t row_begin, int64_t row_end,
                            const uint16_t* x, int64_t tokens, float* out, int64_t out_stride);

Multiplier MultiplierOf(DType type, bool packed) {
  return x86::ForFormat(type, [packed]<class Format>(Format) -> Multiplier {
    if constexpr (avx512::IsPacked<Format>) {
      if (packed) return MultiplyRows<Format, avx512::PackedRows<Format>>;
    }
    return MultiplyRows<Format, x86::ChunkOfRows<Format, kLanes>>;
  });
}

}  // namespace

bool HasBfloat16Product(DType type, int64_t cols) {
  return cols % 32 == 0 && avx512::HasIntegerProduct(type);
}

void ConvertPanel(int64_t cols, const float* const* rows, int64_t count, std::byte* out) {
  for (int64_t c = 0; c < cols; c += 32) {
    for (int64_t t = 0; t < kPanelTokens; ++t, out += 64) {
      __m512i words = _mm512_setzero_si512();
      if (t < count) {
        const float* x = rows[t] + c;
        words = (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(x + 16), _mm512_loadu_ps(x));
      }
      _mm512_storeu_si512(out, words);
    }
  }
}

void Bfloat16MatMul(const WeightMatrix& weights, int64_t row_begin, int64_t row_end,
                    const std::byte* panels, int64_t tokens, float* out, int64_t out_stride) {
  alignas(64) static constexpr TileConfiguration kConfiguration = FullTiles();
  const auto* x = reinterpret_cast<const uint16_t*>(panels);
  const int64_t pair_bytes = weights.cols * kPanelTokens * 2 * 2;
  const int64_t pairs = Min(kMostPanels / 2, 1 + (kCachedBytes - 1) / pair_bytes);
  const int64_t step = pairs * 2 * kPanelTokens;
  const Multiplier multiply = MultiplierOf(weights.type, weights.packed_rows != 0);
  _tile_loadconfig(&kConfiguration);
  for (int64_t t = 0; t < tokens; t += step) {
    multiply(weights, row_begin, row_end, x + t * weights.cols, Min(step, tokens - t),
             out + t * out_stride, out_stride);
  }
  _tile_release();  // Else every switch of threads saves the tiles.
}

}  // namespace moxie::amx
