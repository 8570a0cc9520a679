#pragma once

#include <cstddef>

#include "core/dtype.h"
#include "kernels/x86/vectors.h"
#include "quant/blocks.h"

// How rows are packed for a set that reads a row in each lane (packed_rows.h).

namespace moxie::x86 {
namespace {

/// Pieces of a block that stay whole: runs of `count` pieces of `bytes` each, in order.
struct Run {
  int count;
  int bytes;
};
struct Runs {
  Run run[2];
};

/// Scales apart, the rest by what one vector of rows takes: four bytes of codes, or two where each
/// is to be widened or a half follows.
template <class Block>
constexpr Runs RunsOf(int first_count, int first_bytes, int other_bytes) {
  const int rest = static_cast<int>(sizeof(Block)) - first_count * first_bytes;
  return {{{first_count, first_bytes}, {rest / other_bytes, other_bytes}}};
}

/// A type's pieces; none where its rows are not packed. Codes of 8 bits come `whole_bytes` a piece.
constexpr Runs RunsOf(DType type, int whole_bytes) {
  switch (type) {
    case DType::kQ4_0:
      return RunsOf<BlockQ4_0>(1, 2, 4);
    case DType::kQ4_1:
      return RunsOf<BlockQ4_1>(2, 2, 4);
    case DType::kQ5_0:
      return RunsOf<BlockQ5_0>(1, 2, 4);
    case DType::kQ5_1:
      return RunsOf<BlockQ5_1>(2, 2, 4);
    case DType::kQ8_0:
      return RunsOf<BlockQ8_0>(1, 2, whole_bytes);
    case DType::kIQ4_NL:
      return RunsOf<BlockIQ4_NL>(1, 2, 4);
    case DType::kMXFP4:
      return RunsOf<BlockMXFP4>(1, 1, 4);
    case DType::kQ2_K:
      return RunsOf<BlockQ2_K>(offsetof(BlockQ2_K, d) / 4, 4, 2);
    case DType::kQ3_K:
      return RunsOf<BlockQ3_K>(offsetof(BlockQ3_K, d) / 4, 4, 2);
    case DType::kQ4_K:
      return RunsOf<BlockQ4_K>(2, 2, 4);
    case DType::kQ5_K:
      return RunsOf<BlockQ5_K>(2, 2, 4);
    case DType::kQ6_K:
      return RunsOf<BlockQ6_K>(offsetof(BlockQ6_K, d) / 4, 4, 2);
    case DType::kIQ4_XS:
      return RunsOf<BlockIQ4_XS>(2, 2, 4);
    default:
      return {};
  }
}

template <int kRows, int bytes>
MOXIE_INLINE void PackRun(int count, const std::byte* from, int64_t row_bytes, std::byte*& to) {
  for (int i = 0; i < count; ++i, from += bytes) {
    MOXIE_UNROLL
    for (int r = 0; r < kRows; ++r, to += bytes) CopyBytes(to, from + r * row_bytes, bytes);
  }
}

/// visit(run, where it begins in a row) in the order in which runs are packed: of each 256 columns
/// the first runs of all blocks, then the second ones.
template <class Visit>
MOXIE_INLINE void ForEachRun(const Runs& runs, int64_t elements, int64_t row_bytes, Visit visit) {
  const int64_t block_bytes =
      runs.run[0].count * runs.run[0].bytes + runs.run[1].count * runs.run[1].bytes;
  const int64_t chunk_bytes = 256 / elements * block_bytes;
  for (int64_t chunk = 0; chunk < row_bytes; chunk += chunk_bytes) {
    const int64_t end = Min(chunk + chunk_bytes, row_bytes);
    int64_t skipped = 0;
    for (const Run& run : runs.run) {
      for (int64_t block = chunk; block < end; block += block_bytes) visit(run, block + skipped);
      skipped += run.count * run.bytes;
    }
  }
}

/// Packs kRows rows of blocks of `elements`, so that each piece lies beside those of the other
/// rows.
template <int kRows>
void PackRows(const Runs& runs, int64_t elements, int64_t row_bytes, const std::byte* rows,
              std::byte* out) {
  ForEachRun(runs, elements, row_bytes, [&](const Run& run, int64_t at) {
    switch (run.bytes) {
      case 1:
        return PackRun<kRows, 1>(run.count, rows + at, row_bytes, out);
      case 2:
        return PackRun<kRows, 2>(run.count, rows + at, row_bytes, out);
      default:
        return PackRun<kRows, 4>(run.count, rows + at, row_bytes, out);
    }
  });
}

/// Row `row` of kRows rows that PackRows has packed.
template <int kRows>
void UnpackRow(const Runs& runs, int64_t elements, int64_t row_bytes, const std::byte* rows,
               int64_t row, std::byte* out) {
  ForEachRun(runs, elements, row_bytes, [&](const Run& run, int64_t at) {
    for (int i = 0; i < run.count; ++i, rows += kRows * run.bytes)
      CopyBytes(out + at + i * run.bytes, rows + row * run.bytes, run.bytes);
  });
}

}  // namespace
}  // namespace moxie::x86
