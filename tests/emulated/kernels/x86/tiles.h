#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

// The tiles of AMX, as far as the kernels use them, after the pseudocode of Intel's Architecture
// Instruction Set Extensions reference, chapter 3. What the processor answers with an exception
// stops the program.

namespace moxie::emulated {
namespace {

/// The eight tiles of a thread and their shapes.
class Tiles {
 public:
  static constexpr int kTiles = 8;
  static constexpr int kMaxRows = 16;
  static constexpr int kMaxRowBytes = 64;

  static Tiles& OfThread() {
    static thread_local Tiles tiles;
    return tiles;
  }

  /// `p` is 64 bytes: palette, start row, 14 reserved, 16 words of bytes a row, 16 bytes of rows.
  void Configure(const void* p) {
    uint8_t bytes[64];
    std::memcpy(bytes, p, sizeof(bytes));
    *this = Tiles();
    Check(bytes[0] == 1 && bytes[1] == 0, "palette 1 from row 0 on");
    for (int i = 2; i < 16; ++i) Check(bytes[i] == 0, "zeros in reserved bytes");
    for (int t = 0; t < 16; ++t) {
      const int row_bytes = bytes[16 + 2 * t] | bytes[17 + 2 * t] << 8;
      const int rows = bytes[48 + t];
      Check(rows <= kMaxRows && row_bytes <= kMaxRowBytes, "tiles of at most 16 rows of 64 bytes");
      Check((rows == 0) == (row_bytes == 0), "tiles with both rows and bytes, or neither");
      Check(t < kTiles || rows == 0, "eight tiles");
      if (t < kTiles) tiles_[t].rows = rows, tiles_[t].row_bytes = row_bytes;
    }
    configured_ = true;
  }

  void Release() { *this = Tiles(); }

  void Zero(int tile) { std::memset(At(tile).data, 0, sizeof(Tile::data)); }

  void Load(int tile, const void* p, int64_t stride) {
    Zero(tile);
    Tile& to = At(tile);
    for (int r = 0; r < to.rows; ++r) {
      std::memcpy(to.data[r], static_cast<const uint8_t*>(p) + r * stride,
                  static_cast<size_t>(to.row_bytes));
    }
  }

  void Store(int tile, void* p, int64_t stride) {
    const Tile& from = At(tile);
    for (int r = 0; r < from.rows; ++r) {
      std::memcpy(static_cast<uint8_t*>(p) + r * stride, from.data[r],
                  static_cast<size_t>(from.row_bytes));
    }
  }

  /// sums[m][n] += sum_k a[m][k] * b[k / 4][n][k % 4], 32-bit sums of signed times unsigned bytes.
  void MultiplySignedUnsigned(int sums, int a, int b) {
    Check(sums != a && sums != b && a != b, "three different tiles");
    Tile& to = At(sums);
    const Tile& left = At(a);
    const Tile& right = At(b);
    Check(left.rows == to.rows && right.row_bytes == to.row_bytes, "a tile of sums of that shape");
    Check(left.row_bytes == 4 * right.rows && to.row_bytes % 4 == 0, "as many columns as rows");
    for (int m = 0; m < to.rows; ++m) {
      for (int n = 0; n < to.row_bytes / 4; ++n) {
        uint32_t sum = 0;  // Wraps around, as the processor's does.
        std::memcpy(&sum, to.data[m] + 4 * n, 4);
        for (int k = 0; k < left.row_bytes; ++k) {
          const auto x = static_cast<int8_t>(left.data[m][k]);
          sum += static_cast<uint32_t>(x * right.data[k / 4][4 * n + k % 4]);
        }
        std::memcpy(to.data[m] + 4 * n, &sum, 4);
      }
    }
  }

  /// sums[m][n] += sum_k a[m][2 k] * b[k][n][0], and the same of 2 k + 1: pairs of bfloat16
  /// numbers, whose first and second products are added up apart (TDPBF16PS).
  void MultiplyBfloat16(int sums, int a, int b) {
    Check(sums != a && sums != b && a != b, "three different tiles");
    Tile& to = At(sums);
    const Tile& left = At(a);
    const Tile& right = At(b);
    Check(left.rows == to.rows && right.row_bytes == to.row_bytes, "a tile of sums of that shape");
    Check(left.row_bytes == 4 * right.rows && to.row_bytes % 4 == 0, "as many columns as rows");
    for (int m = 0; m < to.rows; ++m) {
      for (int n = 0; n < to.row_bytes / 4; ++n) {
        float halves[2] = {};
        for (int k = 0; k < right.rows; ++k) {
          for (int half = 0; half < 2; ++half) {
            const float x = FromBfloat16(left.data[m] + 4 * k + 2 * half);
            const float y = FromBfloat16(right.data[k] + 4 * n + 2 * half);
            halves[half] = Flush(std::fma(x, y, halves[half]));
          }
        }
        float sum = 0;
        std::memcpy(&sum, to.data[m] + 4 * n, 4);
        sum = Flush(Flush(sum) + Flush(halves[0] + halves[1]));
        std::memcpy(to.data[m] + 4 * n, &sum, 4);
      }
    }
  }

 private:
  /// Subnormals are zeros, as operands and as results.
  static float Flush(float x) { return std::fabs(x) < 0x1p-126f ? std::copysign(0.0f, x) : x; }

  static float FromBfloat16(const uint8_t* p) {
    const uint32_t bits = static_cast<uint32_t>(p[0] | p[1] << 8) << 16;
    float value = 0;
    std::memcpy(&value, &bits, 4);
    return Flush(value);
  }

  struct Tile {
    int rows = 0;
    int row_bytes = 0;
    uint8_t data[kMaxRows][kMaxRowBytes] = {};
  };

  static void Check(bool holds, const char* expected) {
    if (holds) return;
    std::fprintf(stderr, "AMX would raise an exception: it expects %s\n", expected);
    std::abort();
  }

  Tile& At(int tile) {
    Check(configured_ && tile >= 0 && tile < kTiles && tiles_[tile].rows > 0, "a configured tile");
    return tiles_[tile];
  }

  bool configured_ = false;
  Tile tiles_[kTiles];
};

}  // namespace
}  // namespace moxie::emulated

[[maybe_unused]] static inline void _tile_loadconfig(const void* p) {
  moxie::emulated::Tiles::OfThread().Configure(p);
}
[[maybe_unused]] static inline void _tile_release() {
  moxie::emulated::Tiles::OfThread().Release();
}
[[maybe_unused]] static inline void _tile_zero(int tile) {
  moxie::emulated::Tiles::OfThread().Zero(tile);
}
[[maybe_unused]] static inline void _tile_loadd(int tile, const void* p, int64_t stride) {
  moxie::emulated::Tiles::OfThread().Load(tile, p, stride);
}

/// The same: only caches tell them apart.
[[maybe_unused]] static inline void _tile_stream_loadd(int tile, const void* p, int64_t stride) {
  _tile_loadd(tile, p, stride);
}
[[maybe_unused]] static inline void _tile_stored(int tile, void* p, int64_t stride) {
  moxie::emulated::Tiles::OfThread().Store(tile, p, stride);
}
[[maybe_unused]] static inline void _tile_dpbsud(int sums, int a, int b) {
  moxie::emulated::Tiles::OfThread().MultiplySignedUnsigned(sums, a, b);
}
[[maybe_unused]] static inline void _tile_dpbf16ps(int sums, int a, int b) {
  moxie::emulated::Tiles::OfThread().MultiplyBfloat16(sums, a, b);
}
