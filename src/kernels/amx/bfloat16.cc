#include "kernels/amx/bfloat16.h"

#include <type_traits>

#include "kernels/amx/tiles.h"
#include "kernels/amx/unpack_bfloat16.h"
#include "kernels/avx512/matmul_integer.h"

namespace moxie::amx {
namespace {

using x86::kChunkElements;
using x86::Min;

constexpr int kTileWords = 16 * 32;           // 1 KiB.
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

constexpr TileConfiguration FullTiles() {
  TileConfiguration configuration;
  for (int tile = 0; tile < 8; ++tile) configuration.Set(tile, 16, 64);
  return configuration;
}

/// A chunk of kBlockRows rows, tile by tile.
struct UnpackedChunk {
  alignas(64) uint16_t words[2][kGroups][kTileWords];
};

/// The sums of a panel and a block of rows: [token][row], twice.
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
    if (credit_ < rounds_ || next_ == end_) return false;
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

/// 32 columns of two blocks of rows and `kPanels` panels. Half of a unit, from kQuad on, is
/// unpacked between the products: few instructions at a time, for when those fill the scheduler
/// the matrix unit waits.
template <int kPanels, int kQuad, class Unit>
MOXIE_INLINE void MultiplyColumns(const uint16_t* rows, const uint16_t* x, int64_t panel_words,
                                  const Unit& unit) {
  constexpr int kRowBytes = 64;
  constexpr int kCount = 2 / kPanels;
  _tile_loadd(MOXIE_PANEL_0, x, kRowBytes);
  _tile_loadd(MOXIE_ROWS_0, rows, kRowBytes);
  _tile_dpbf16ps(MOXIE_SUMS_00, MOXIE_PANEL_0, MOXIE_ROWS_0);
  unit.template Unpack<kQuad, kCount>();
  _tile_loadd(MOXIE_ROWS_1, rows + kGroups * kTileWords, kRowBytes);
  _tile_dpbf16ps(MOXIE_SUMS_01, MOXIE_PANEL_0, MOXIE_ROWS_1);
  unit.template Unpack<kQuad + kCount, kCount>();
  if constexpr (kPanels == 2) {
    _tile_loadd(MOXIE_PANEL_1, x + panel_words, kRowBytes);
    _tile_dpbf16ps(MOXIE_SUMS_10, MOXIE_PANEL_1, MOXIE_ROWS_0);
    unit.template Unpack<kQuad + 2, 1>();
    _tile_dpbf16ps(MOXIE_SUMS_11, MOXIE_PANEL_1, MOXIE_ROWS_1);
    unit.template Unpack<kQuad + 3, 1>();
  }
}

/// sums += a chunk of weights times `kPanels` panels; from zero where it is the `first`.
template <int kPanels, class Unpacker>
MOXIE_INLINE void MultiplyPanels(const UnpackedChunk& weights, int groups, const uint16_t* x,
                                 int64_t panel_words, bool first, PanelSums* sums, Unpacker& next) {
  constexpr int kRowBytes = 64;
  FinishWrites();
  if (first) {
    _tile_zero(MOXIE_SUMS_00);
    _tile_zero(MOXIE_SUMS_01);
    if constexpr (kPanels == 2) {
      _tile_zero(MOXIE_SUMS_10);
      _tile_zero(MOXIE_SUMS_11);
    }
  } else {
    _tile_loadd(MOXIE_SUMS_00, sums[0].sums[0], kRowBytes);
    _tile_loadd(MOXIE_SUMS_01, sums[0].sums[1], kRowBytes);
    if constexpr (kPanels == 2) {
      _tile_loadd(MOXIE_SUMS_10, sums[1].sums[0], kRowBytes);
      _tile_loadd(MOXIE_SUMS_11, sums[1].sums[1], kRowBytes);
    }
  }
  const uint16_t* rows = weights.words[0][0];
  int g = 0;
  for (; g + 2 <= groups; g += 2, rows += 2 * kTileWords, x += 2 * kTileWords) {
    if (next.IsDue()) {
      const auto unit = next.Take();
      MultiplyColumns<kPanels, 0>(rows, x, panel_words, unit);
      MultiplyColumns<kPanels, 4>(rows + kTileWords, x + kTileWords, panel_words, unit);
    } else {
      MultiplyColumns<kPanels, 0>(rows, x, panel_words, NoUnit());
      MultiplyColumns<kPanels, 0>(rows + kTileWords, x + kTileWords, panel_words, NoUnit());
    }
  }
  if (g < groups) MultiplyColumns<kPanels, 0>(rows, x, panel_words, NoUnit());
  _tile_stored(MOXIE_SUMS_00, sums[0].sums[0], kRowBytes);
  _tile_stored(MOXIE_SUMS_01, sums[0].sums[1], kRowBytes);
  if constexpr (kPanels == 2) {
    _tile_stored(MOXIE_SUMS_10, sums[1].sums[0], kRowBytes);
    _tile_stored(MOXIE_SUMS_11, sums[1].sums[1], kRowBytes);
  }
}

void StoreSums(const PanelSums& sums, int64_t rows, int64_t tokens, float* out,
               int64_t out_stride) {
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
  const int pairs = static_cast<int>((panels + 1) / 2);
  UnpackedChunk unpacked[2];
  PanelSums sums[kMostPanels];
  Unpacker<Format, Rows> next(weights, row_begin, row_end);
  next.Select(row_begin, 0, 1, &unpacked[0]);
  next.Finish();
  int now = 0;
  for (int64_t row = row_begin; row < row_end; row += kBlockRows) {
    for (int64_t c = 0; c < chunks; ++c, now ^= 1) {
      const int groups = next.groups();
      const bool last = c + 1 == chunks;
      if (!last) {
        next.Select(row, c + 1, pairs * (groups / 2), &unpacked[now ^ 1]);
      } else if (row + kBlockRows < row_end) {
        next.Select(row + kBlockRows, 0, pairs * (groups / 2), &unpacked[now ^ 1]);
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
          StoreSums(sums[q], row_end - row, tokens - q * kPanelTokens,
                    out + q * kPanelTokens * out_stride + row, out_stride);
        }
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
