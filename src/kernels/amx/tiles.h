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

/// Orders what the program has written to memory before the tiles that it then loads: the
/// intrinsics do not tell every compiler that they read memory.
MOXIE_INLINE void FinishWrites() { asm volatile("" ::: "memory"); }

}  // namespace
}  // namespace moxie::amx
