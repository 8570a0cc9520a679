#pragma once

#include <cstdint>

#include "kernels/x86/vectors.h"

namespace moxie::amx {
namespace {

/// What ldtilecfg reads (Intel's Architecture Instruction Set Extensions reference, section 3.3).
struct TileConfiguration {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};

  constexpr void Set(int tile, int tile_rows, int bytes) {
    rows[tile] = static_cast<uint8_t>(tile_rows);
    row_bytes[tile] = static_cast<uint16_t>(bytes);
  }
};
static_assert(sizeof(TileConfiguration) == 64);

constexpr TileConfiguration FullTiles() {
  TileConfiguration configuration;
  for (int tile = 0; tile < 8; ++tile) configuration.Set(tile, 16, 64);
  return configuration;
}

/// Two numbers a lane, `even` in the low half, rounded to the nearest bfloat16, of two the greater
/// in magnitude. (vcvtne2ps2bf16 puts lanes side by side.)
MOXIE_INLINE __m512i PairOf(__m512 even, __m512 odd) {
  const __m512i half = _mm512_set1_epi32(0x8000);
  const __m512i low = _mm512_srli_epi32(_mm512_add_epi32(_mm512_castps_si512(even), half), 16);
  const __m512i high = _mm512_add_epi32(_mm512_castps_si512(odd), half);
  return _mm512_or_si512(low, _mm512_and_si512(high, _mm512_set1_epi32(-0x10000)));
}

/// Orders what the program has written to memory before the tiles that it then loads: the
/// intrinsics do not tell every compiler that they read memory.
MOXIE_INLINE void FinishWrites() { asm volatile("" ::: "memory"); }

}  // namespace
}  // namespace moxie::amx
