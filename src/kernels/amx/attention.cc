#include "kernels/amx/amx.h"
#include "kernels/amx/split_rows.h"
#include "kernels/amx/tiles.h"
#include "kernels/lanes/elementwise.h"

// Attention of many queries on the matrix unit, in numbers split in two (split_rows.h). Scores lie
// as [row][query], sixteen queries side by side, so that maxima and sums need nothing across lanes;
// exponentials, split again, take their place. A segment has two parts with maxima of their own: a
// part's scores stay in the first-level cache.

namespace moxie::amx {
namespace {

constexpr int64_t kMaxRows = AttentionTile::kMaxRows;
constexpr int64_t kMaxParts = 2;
constexpr int64_t kPartGroups = kMaxRows / kMaxParts / kDepth;
constexpr int64_t kPanelScores = kPartGroups * kDepth * kLanes;

// The tiles, by what they hold; the intrinsics take literals. All are full.
#define MOXIE_SUMS_00 0  // [left row][query], of the first left tile and the first panel
#define MOXIE_SUMS_10 1  // of the second left tile
#define MOXIE_SUMS_01 2
#define MOXIE_SUMS_11 3
#define MOXIE_LEFT_0 4  // [left row][32]: rows of keys, dimensions of values
#define MOXIE_LEFT_1 5
#define MOXIE_RIGHT_0 6  // [16][query][2]: queries, exponentials
#define MOXIE_RIGHT_1 7

/// Where the scores of a group lie among those of a panel and a part.
MOXIE_INLINE int64_t ScoresOf(int64_t group) { return group % kPartGroups * kDepth * kLanes; }

// ---- products -----------------------------------------------------------------------------------

template <int kPanels>
MOXIE_INLINE void ZeroSums() {
  _tile_zero(MOXIE_SUMS_00);
  _tile_zero(MOXIE_SUMS_10);
  if constexpr (kPanels == 2) {
    _tile_zero(MOXIE_SUMS_01);
    _tile_zero(MOXIE_SUMS_11);
  }
}

template <int kPanels>
MOXIE_INLINE void Multiply() {
  _tile_dpbf16ps(MOXIE_SUMS_00, MOXIE_LEFT_0, MOXIE_RIGHT_0);
  _tile_dpbf16ps(MOXIE_SUMS_10, MOXIE_LEFT_1, MOXIE_RIGHT_0);
  if constexpr (kPanels == 2) {
    _tile_dpbf16ps(MOXIE_SUMS_01, MOXIE_LEFT_0, MOXIE_RIGHT_1);
    _tile_dpbf16ps(MOXIE_SUMS_11, MOXIE_LEFT_1, MOXIE_RIGHT_1);
  }
}

/// sums += left times right, each split: high * low + high * high + low * high. The right tiles'
/// rows are `right_stride` bytes apart, and the low parts `right_low` behind the high ones.
template <int kPanels>
MOXIE_INLINE void AddProducts(const std::byte* left_0, const std::byte* left_1,
                              const std::byte* right_0, const std::byte* right_1,
                              int64_t right_stride, int64_t right_low) {
  _tile_loadd(MOXIE_LEFT_0, left_0, 64);
  _tile_loadd(MOXIE_RIGHT_0, right_0 + right_low, right_stride);
  _tile_loadd(MOXIE_LEFT_1, left_1, 64);
  if constexpr (kPanels == 2) _tile_loadd(MOXIE_RIGHT_1, right_1 + right_low, right_stride);
  Multiply<kPanels>();
  _tile_loadd(MOXIE_RIGHT_0, right_0, right_stride);
  if constexpr (kPanels == 2) _tile_loadd(MOXIE_RIGHT_1, right_1, right_stride);
  Multiply<kPanels>();
  _tile_loadd(MOXIE_LEFT_0, left_0 + kTileBytes, 64);
  _tile_loadd(MOXIE_LEFT_1, left_1 + kTileBytes, 64);
  Multiply<kPanels>();
}

/// `out_1` of the second panel; the second left tile's sums follow the first's.
template <int kPanels>
MOXIE_INLINE void StoreSums(float* out_0, float* out_1) {
  _tile_stored(MOXIE_SUMS_00, out_0, 64);
  _tile_stored(MOXIE_SUMS_10, out_0 + kLanes * kLanes, 64);
  if constexpr (kPanels == 2) {
    _tile_stored(MOXIE_SUMS_01, out_1, 64);
    _tile_stored(MOXIE_SUMS_11, out_1 + kLanes * kLanes, 64);
  }
}

/// scores [panel][row][query]
template <int kPanels>
void Scores(const std::byte* keys, const std::byte* queries, int64_t steps, Groups groups,
            float* scores) {
  FinishWrites();
  const int64_t bytes = steps * kSplitBytes;  // Of 16 rows, of a panel.
  for (int64_t g = groups.begin; g < groups.end; ++g) {
    const std::byte* rows = keys + 2 * g * bytes;
    ZeroSums<kPanels>();
    for (int64_t at = 0; at < bytes; at += kSplitBytes) {
      AddProducts<kPanels>(rows + at, rows + bytes + at, queries + at, queries + bytes + at, 64,
                           kTileBytes);
    }
    float* out = scores + ScoresOf(g);
    StoreSums<kPanels>(out, out + kPanelScores);
  }
  FinishWrites();
}

/// sums [panel][dim, rounded up][query]. `weights` is what Exponentials left of scores.
template <int kPanels>
void Sums(const std::byte* values, const float* weights, Groups groups, int64_t dim, float* sums) {
  const int64_t padded = RoundUp(dim, 2 * kLanes);
  const int64_t group_bytes = padded / kLanes * kSplitBytes;
  constexpr int64_t kPanelBytes = kPanelScores * 4;
  FinishWrites();
  for (int64_t d = 0; d < padded; d += 2 * kLanes) {
    ZeroSums<kPanels>();
    for (int64_t g = groups.begin; g < groups.end; ++g) {
      const std::byte* left = values + g * group_bytes + d / kLanes * kSplitBytes;
      const auto* right = reinterpret_cast<const std::byte*>(weights + ScoresOf(g));
      AddProducts<kPanels>(left, left + kSplitBytes, right, right + kPanelBytes, 128, 64);
    }
    StoreSums<kPanels>(sums + d * kLanes, sums + (padded + d) * kLanes);
  }
  FinishWrites();
}

// ---- exponentials -------------------------------------------------------------------------------

/// The rows that a panel's queries see. Lanes without a query repeat the last one.
struct Seen {
  alignas(64) int32_t begin[kLanes], end[kLanes];
  int64_t first = kMaxRows, last = 0;          // What any of them sees.
  int64_t all_first = 0, all_last = kMaxRows;  // What all of them see.

  Seen(const AttentionTile& tile, int64_t query) {
    for (int64_t i = 0; i < kLanes; ++i) {
      const int64_t q = Min(query + i, tile.count - 1);
      begin[i] = tile.begin[q];
      end[i] = tile.end[q];
      all_first = begin[i] > all_first ? begin[i] : all_first;
      all_last = Min(all_last, end[i]);
      if (begin[i] >= end[i]) continue;
      first = Min(first, begin[i]);
      last = end[i] > last ? end[i] : last;
    }
  }
  bool All(int64_t group) const {
    return group * kDepth >= all_first && (group + 1) * kDepth <= all_last;
  }
  __mmask16 Lanes(int64_t row) const {
    const __m512i at = _mm512_set1_epi32(static_cast<int>(row));
    const __mmask16 early = _mm512_cmpgt_epi32_mask(_mm512_load_si512(begin), at);
    return static_cast<__mmask16>(_mm512_cmpgt_epi32_mask(_mm512_load_si512(end), at) & ~early);
  }
};

constexpr int kChains = 4;  // Rows that are added up apart, by position.

template <bool kAll>
MOXIE_INLINE void AddToMaxima(const float* scores, int64_t row, const Seen& seen,
                              __m512 (&maxima)[kChains]) {
  for (int64_t i = 0; i < kDepth; i += kChains) {
    MOXIE_UNROLL
    for (int c = 0; c < kChains; ++c) {
      const __m512 score = _mm512_load_ps(scores + (i + c) * kLanes);
      const __m512 max = _mm512_max_ps(maxima[c], score);
      maxima[c] = kAll ? max : _mm512_mask_mov_ps(maxima[c], seen.Lanes(row + i + c), max);
    }
  }
}

/// Each two rows of scores become a row of pairs of high parts and one of low parts.
template <bool kAll>
MOXIE_INLINE void ToExponentials(float* scores, int64_t row, const Seen& seen, __m512 max,
                                 __m512 (&totals)[kChains]) {
  for (int64_t i = 0; i < kDepth; i += kChains) {
    MOXIE_UNROLL
    for (int c = 0; c < kChains; c += 2) {
      float* at = scores + (i + c) * kLanes;
      __m512 e[2];
      MOXIE_UNROLL
      for (int k = 0; k < 2; ++k) {
        e[k] = lanes::PowerOfTwo<Floats>(_mm512_sub_ps(_mm512_load_ps(at + k * kLanes), max));
        if constexpr (!kAll) e[k] = _mm512_maskz_mov_ps(seen.Lanes(row + i + c + k), e[k]);
        totals[c + k] = _mm512_add_ps(totals[c + k], e[k]);
      }
      __m512i high, low;
      SplitPairs(e[0], e[1], high, low);
      _mm512_store_si512(at, high);
      _mm512_store_si512(at + kLanes, low);
    }
  }
}

/// A panel's softmax over some rows, with a query in each lane.
struct PanelSoftmax {
  __m512 max, total;
};

/// The scores of a panel become exponentials.
PanelSoftmax Exponentials(float* scores, Groups groups, const Seen& seen) {
  const __m512 nothing = _mm512_set1_ps(-__builtin_inff());
  __m512 maxima[kChains] = {nothing, nothing, nothing, nothing};
  for (int64_t g = groups.begin; g < groups.end; ++g) {
    if (seen.All(g)) {
      AddToMaxima<true>(scores + ScoresOf(g), g * kDepth, seen, maxima);
    } else {
      AddToMaxima<false>(scores + ScoresOf(g), g * kDepth, seen, maxima);
    }
  }
  const __m512 max =
      _mm512_max_ps(_mm512_max_ps(maxima[0], maxima[1]), _mm512_max_ps(maxima[2], maxima[3]));
  __m512 totals[kChains] = {};
  for (int64_t g = groups.begin; g < groups.end; ++g) {
    if (seen.All(g)) {
      ToExponentials<true>(scores + ScoresOf(g), g * kDepth, seen, max, totals);
    } else {
      ToExponentials<false>(scores + ScoresOf(g), g * kDepth, seen, max, totals);
    }
  }
  return {max,
          _mm512_add_ps(_mm512_add_ps(totals[0], totals[1]), _mm512_add_ps(totals[2], totals[3]))};
}

// ---- a tile of queries --------------------------------------------------------------------------

/// Where the parts of the scratch begin, in bytes.
struct Scratch {
  int64_t queries, keys, values, scores, sums, bytes;
  int64_t part_sums;  ///< floats of a part's sums for a panel

  Scratch(int64_t key_dim, int64_t value_dim) {
    const int64_t key_bytes = RoundUp(key_dim, kDepth) * 4;
    const int64_t value_bytes = RoundUp(value_dim, kDepth) * 4;
    part_sums = value_bytes / 4 * kLanes;
    queries = 0;
    keys = queries + 2 * kLanes * key_bytes;
    values = keys + kMaxRows * key_bytes;
    scores = values + kMaxRows * value_bytes;
    sums = scores + 2 * kPanelScores * 4;
    bytes = sums + kMaxParts * 2 * part_sums * 4;
  }
};

/// What the parts of a segment, `stride` apart, have in common: a query's maximum, total, and sums.
void Join(const PanelSoftmax* parts, int64_t stride, int64_t count, const float* part_sums,
          int64_t part_stride, int64_t queries, int64_t dim, float* maxima, double* totals,
          float* sums) {
  const __m512 nothing = _mm512_set1_ps(-__builtin_inff());
  __m512 max = nothing;
  for (int64_t i = 0; i < count; ++i) max = _mm512_max_ps(max, parts[i * stride].max);
  __m512 factors[kMaxParts], total = _mm512_setzero_ps();
  for (int64_t i = 0; i < count; ++i) {
    const PanelSoftmax& part = parts[i * stride];
    factors[i] = _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(part.max, nothing, _CMP_NEQ_UQ),
                                     lanes::PowerOfTwo<Floats>(_mm512_sub_ps(part.max, max)));
    total = _mm512_fmadd_ps(factors[i], part.total, total);
  }
  lanes::StoreUpTo<Floats>(maxima, _mm512_mul_ps(max, _mm512_set1_ps(lanes::kLogOf2)), queries);
  alignas(64) float stored[kLanes];
  _mm512_store_ps(stored, total);
  for (int64_t q = 0; q < queries; ++q) totals[q] = static_cast<double>(stored[q]);
  for (int64_t d = 0; d < dim; d += kLanes) {
    __m512 v[16];
    MOXIE_UNROLL
    for (int i = 0; i < 16; ++i) {
      v[i] = _mm512_setzero_ps();
      for (int64_t k = 0; k < count; ++k) {
        const float* part = part_sums + k * part_stride + (d + i) * kLanes;
        v[i] = _mm512_fmadd_ps(factors[k], _mm512_load_ps(part), v[i]);
      }
    }
    Floats::Transpose(v);
    for (int64_t q = 0; q < queries; ++q)
      lanes::StoreUpTo<Floats>(sums + q * dim + d, v[q], dim - d);
  }
}

/// Up to two panels, from query `first` on.
template <int kPanels>
void AttendPanels(const AttentionTile& tile, int64_t first, const Seen* seen, const Scratch& places,
                  std::byte* scratch, float* maxima, double* totals, float* sums) {
  int64_t begin = seen[0].first, end = seen[0].last;
  if constexpr (kPanels == 2) {
    begin = Min(begin, seen[1].first);
    end = seen[1].last > end ? seen[1].last : end;
  }
  const Groups all = {begin / kDepth, (end + kDepth - 1) / kDepth};
  const int64_t steps = RoundUp(tile.key_dim, kDepth) / kDepth;
  std::byte* queries = scratch + places.queries;
  auto* scores = reinterpret_cast<float*>(scratch + places.scores);
  auto* part_sums = reinterpret_cast<float*>(scratch + places.sums);
  const int64_t part_stride = 2 * places.part_sums;
  for (int p = 0; p < kPanels; ++p)
    SplitQueries(tile, first + p * kLanes, tile.scale * lanes::kLog2OfE,
                 queries + p * steps * kSplitBytes);
  PanelSoftmax softmax[kMaxParts][kPanels];
  int64_t parts = 0;
  for (int64_t g = 0; g < kMaxParts * kPartGroups; g += kPartGroups) {
    const Groups groups = {all.begin > g ? all.begin : g, Min(all.end, g + kPartGroups)};
    if (groups.begin >= groups.end) continue;
    Scores<kPanels>(scratch + places.keys, queries, steps, groups, scores);
    for (int p = 0; p < kPanels; ++p)
      softmax[parts][p] = Exponentials(scores + p * kPanelScores, groups, seen[p]);
    Sums<kPanels>(scratch + places.values, scores, groups, tile.value_dim,
                  part_sums + parts * part_stride);
    ++parts;
  }
  for (int p = 0; p < kPanels; ++p) {
    const int64_t at = first + p * kLanes;
    Join(&softmax[0][p], kPanels, parts, part_sums + p * places.part_sums, part_stride,
         Min(kLanes, tile.count - at), tile.value_dim, maxima + at, totals + at,
         sums + at * tile.value_dim);
  }
}

template <class Row>
void AttendRows(const AttentionTile& tile, std::byte* scratch, float* maxima, double* totals,
                float* sums) {
  const Scratch places(tile.key_dim, tile.value_dim);
  Groups groups = {kMaxRows / kDepth, 0};
  for (int64_t r = 0; r < tile.rows; ++r) {
    if (tile.keys[r] == nullptr) continue;
    groups.begin = Min(groups.begin, r / kDepth);
    groups.end = r / kDepth + 1;
  }
  SplitKeys<Row>(tile, groups, scratch + places.keys);
  SplitValues<Row>(tile, groups, scratch + places.values);
  for (int64_t q = 0; q < tile.count; q += 2 * kLanes) {
    const Seen seen[2] = {{tile, q}, {tile, q + kLanes}};
    const auto attend = q + kLanes < tile.count ? AttendPanels<2> : AttendPanels<1>;
    attend(tile, q, seen, places, scratch, maxima, totals, sums);
  }
}

}  // namespace

int64_t AttentionScratchBytes(int64_t key_dim, int64_t value_dim) {
  return Scratch(key_dim, value_dim).bytes + 64;
}

void Attend(const AttentionTile& tile, std::byte* scratch, float* maxima, double* totals,
            float* sums) {
  alignas(64) static constexpr TileConfiguration kConfiguration = FullTiles();
  const auto kernel = tile.type == DType::kF32   ? AttendRows<lanes::RowF32<Floats>>
                      : tile.type == DType::kF16 ? AttendRows<lanes::RowF16<Floats>>
                                                 : AttendRows<lanes::RowQ8_0<Floats>>;
  const auto misaligned = static_cast<int64_t>(reinterpret_cast<uintptr_t>(scratch) % 64);
  _tile_loadconfig(&kConfiguration);
  kernel(tile, scratch + (64 - misaligned) % 64, maxima, totals, sums);
  _tile_release();  // Else every switch of threads saves the tiles.
}

}  // namespace moxie::amx
