#pragma once

#include <cstdint>

#include "core/half.h"

namespace moxie {

// The block layouts of ggml's quantised tensor types, as they lie in a file (ggml-common.h and
// gguf-py's quants.py name the same fields). Every struct consists of bytes alone: alignment 1,
// no padding, little-endian by construction. So a block may be copied from any address, and a
// vector kernel may load a field straight from a mapped file.
//
// Each comment gives the value of element i of a block, in float32, one rounding for each written
// operation and in the written order: `quant/dequantize.h` computes exactly that.
//
// Notation: x[a..b] are bits a to b (inclusive, 0 the lowest) of x; / is integer division.
// `nibble(q, i)` for 32 elements in 16 bytes: element i < 16 is the low four bits of q[i], element
// 16 + i the high four bits. The "super-blocks" of 256 elements store groups in such halves of 32:
// for 4-bit codes, bytes 32k..32k+31 hold elements 64k..64k+31 low, 64k+32..64k+63 high; for 2-bit
// codes, bytes 32k..32k+31 hold elements 128k + 32s + (0..31) at bits 2s, s = 0..3.

/// A 16-bit word at any address; `value` reads it as an IEEE binary16.
struct StoredHalf {
  uint8_t low = 0;
  uint8_t high = 0;

  uint16_t bits() const { return static_cast<uint16_t>(low | (high << 8)); }
  float value() const { return HalfToFloat(bits()); }
  void set_bits(uint16_t bits) {
    low = static_cast<uint8_t>(bits & 0xff);
    high = static_cast<uint8_t>(bits >> 8);
  }
  static StoredHalf Of(float f) {
    StoredHalf half;
    half.set_bits(FloatToHalf(f));
    return half;
  }
};

// ---- 32 elements a block ------------------------------------------------------------------------

/// d * (nibble(q, i) - 8)
struct BlockQ4_0 {
  static constexpr int kElements = 32;
  StoredHalf d;
  uint8_t q[16];
};
static_assert(sizeof(BlockQ4_0) == 18);

/// d * nibble(q, i) + m
struct BlockQ4_1 {
  static constexpr int kElements = 32;
  StoredHalf d;
  StoredHalf m;
  uint8_t q[16];
};
static_assert(sizeof(BlockQ4_1) == 20);

/// d * ((nibble(q, i) | h(i) << 4) - 16), where h(i) is bit i of `high` as a little-endian u32.
struct BlockQ5_0 {
  static constexpr int kElements = 32;
  StoredHalf d;
  uint8_t high[4];
  uint8_t q[16];
};
static_assert(sizeof(BlockQ5_0) == 22);

/// d * (nibble(q, i) | h(i) << 4) + m, h as for Q5_0.
struct BlockQ5_1 {
  static constexpr int kElements = 32;
  StoredHalf d;
  StoredHalf m;
  uint8_t high[4];
  uint8_t q[16];
};
static_assert(sizeof(BlockQ5_1) == 24);

/// d * q[i]
struct BlockQ8_0 {
  static constexpr int kElements = 32;
  StoredHalf d;
  int8_t q[32];
};
static_assert(sizeof(BlockQ8_0) == 34);

/// d * kIq4Values[nibble(q, i)]: 4-bit codes of a fixed non-linear table (codebooks.h).
struct BlockIQ4_NL {
  static constexpr int kElements = 32;
  StoredHalf d;
  uint8_t q[16];
};
static_assert(sizeof(BlockIQ4_NL) == 18);

/// 2^(e - 128) * kMxfp4Values[nibble(q, i)]: OCP Microscaling Formats 1.0, section 5.3. The table
/// holds twice the E2M1 values, the scale half the E8M0 one (2^-128, 2^-127 are subnormal). Unlike
/// in the specification e = 255 is 2^127 and not NaN, as in ggml and gguf.
struct BlockMXFP4 {
  static constexpr int kElements = 32;
  uint8_t e;
  uint8_t q[16];
};
static_assert(sizeof(BlockMXFP4) == 17);

// ---- 256 elements a block, "k-quants" -----------------------------------------------------------

/// With g = i / 16:  (d * scales[g][0..3]) * c(i) - (dmin * scales[g][4..7]),
/// c(i) the 2-bit code of element i in q.
struct BlockQ2_K {
  static constexpr int kElements = 256;
  uint8_t scales[16];
  uint8_t q[64];
  StoredHalf d;
  StoredHalf dmin;
};
static_assert(sizeof(BlockQ2_K) == 84);

/// With g = i / 16:  (d * (s(g) - 32)) * (c(i) - (h(i) ? 0 : 4)),
/// c(i) the 2-bit code of element i in q, h(i) = bit i / 32 of hmask[i % 32],
/// s(g) = (scales[g % 8] >> 4 * (g / 8)) % 16 | ((scales[8 + g % 4] >> 2 * (g / 4)) % 4) << 4.
struct BlockQ3_K {
  static constexpr int kElements = 256;
  uint8_t hmask[32];
  uint8_t q[64];
  uint8_t scales[12];
  StoredHalf d;
};
static_assert(sizeof(BlockQ3_K) == 110);

/// With g = i / 32:  (d * s(g)) * c(i) - (dmin * m(g)), c(i) the 4-bit code of element i in q.
/// Six-bit s and m are packed in 12 bytes p = scales:
///   g < 4:   s = p[g][0..5]                             m = p[g + 4][0..5]
///   g >= 4:  s = p[g + 4][0..3] | p[g - 4][6..7] << 4   m = p[g + 4][4..7] | p[g][6..7] << 4
struct BlockQ4_K {
  static constexpr int kElements = 256;
  StoredHalf d;
  StoredHalf dmin;
  uint8_t scales[12];
  uint8_t q[128];
};
static_assert(sizeof(BlockQ4_K) == 144);

/// As Q4_K with c(i) | h(i) << 4 for c(i), h(i) = bit i / 32 of high[i % 32].
struct BlockQ5_K {
  static constexpr int kElements = 256;
  StoredHalf d;
  StoredHalf dmin;
  uint8_t scales[12];
  uint8_t high[32];
  uint8_t q[128];
};
static_assert(sizeof(BlockQ5_K) == 176);

/// (d * scales[i / 16]) * ((l(i) | h(i) << 4) - 32), h(i) the 2-bit code of element i in `high`.
/// The low bits come in halves of 128 elements: with k = i / 128 and j = i % 128, l(i) is
/// low[64k + j % 64], its low four bits for j < 64, else its high ones.
struct BlockQ6_K {
  static constexpr int kElements = 256;
  uint8_t low[128];
  uint8_t high[64];
  int8_t scales[16];
  StoredHalf d;
};
static_assert(sizeof(BlockQ6_K) == 210);

/// With g = i / 32:  (d * (s(g) - 32)) * kIq4Values[c], c = nibble(q + 16g, i % 32),
/// s(g) = (scales_low[g / 2] >> 4 * (g % 2)) % 16 | ((scales_high >> 2g) % 4) << 4.
struct BlockIQ4_XS {
  static constexpr int kElements = 256;
  StoredHalf d;
  StoredHalf scales_high;
  uint8_t scales_low[4];
  uint8_t q[128];
};
static_assert(sizeof(BlockIQ4_XS) == 136);

// ---- 256 elements a block, codes of lattice points ("i-quants")
// ---------------------------------- An index picks a row of 8 (or 4) magnitudes from a codebook
// (codebooks.h); signs are stored beside it, as a byte of 8, or as 7 bits of which the eighth is
// the parity (EvenSigns in codebooks.h).

/// For each 32 elements a pair of little-endian u32 (index, rest): element group k of 8 uses
/// kIq2XxsGrid[byte k of index] and EvenSigns(rest[7k..7k+6]), all scaled by
/// (d * (0.5 + rest[28..31])) * 0.25.
struct BlockIQ2_XXS {
  static constexpr int kElements = 256;
  StoredHalf d;
  uint8_t q[64];
};
static_assert(sizeof(BlockIQ2_XXS) == 66);

/// Group k of 8 elements: kIq2XsGrid[q[k][0..8]], EvenSigns(q[k][9..15]), scaled by
/// (d * (0.5 + s)) * 0.25, s the nibble k / 2 of scales (low nibble first).
struct BlockIQ2_XS {
  static constexpr int kElements = 256;
  StoredHalf d;
  StoredHalf q[32];
  uint8_t scales[8];
};
static_assert(sizeof(BlockIQ2_XS) == 74);

/// Group k of 8 elements: kIq2SGrid[q[k] | high[k / 4][2(k % 4) ..+1] << 8], signs[k], scale as
/// for IQ2_XS.
struct BlockIQ2_S {
  static constexpr int kElements = 256;
  StoredHalf d;
  uint8_t q[32];
  uint8_t signs[32];
  uint8_t high[8];
  uint8_t scales[8];
};
static_assert(sizeof(BlockIQ2_S) == 82);

/// For each 32 elements g, 8 indices q[8g..8g+7] into kIq3XxsGrid (4 elements each), and a
/// little-endian u32 `rest` at scales + 4g: element group k of 8 has EvenSigns(rest[7k..7k+6]), all
/// scaled by (d * (0.5 + rest[28..31])) * 0.5.
struct BlockIQ3_XXS {
  static constexpr int kElements = 256;
  StoredHalf d;
  uint8_t q[64];
  uint8_t scales[32];
};
static_assert(sizeof(BlockIQ3_XXS) == 98);

/// Group k of 4 elements: kIq3SGrid[q[k] | high[k / 8][k % 8] << 8], sign of element i is bit i % 8
/// of signs[i / 8], scaled by d * (1 + 2s), s the nibble i / 32 of scales (low nibble first).
struct BlockIQ3_S {
  static constexpr int kElements = 256;
  StoredHalf d;
  uint8_t q[64];
  uint8_t high[8];
  uint8_t signs[32];
  uint8_t scales[4];
};
static_assert(sizeof(BlockIQ3_S) == 110);

/// For each 32 elements g with h = high[g]: (d * (2 * h[12..14] + 1)) * (point + delta), delta =
/// h[15] ? -0.125 : 0.125, point of element group k of 8: kIq1Grid[q[4g + k] | h[3k..3k+2] << 8].
struct BlockIQ1_S {
  static constexpr int kElements = 256;
  StoredHalf d;
  uint8_t q[32];
  StoredHalf high[8];
};
static_assert(sizeof(BlockIQ1_S) == 50);

/// Group k of 8 elements with h = nibble k of `high` (low nibble first):
/// (d * (2s + 1)) * (point + delta), delta = h[3] ? -0.125 : 0.125,
/// point kIq1Grid[q[k] | h[0..2] << 8], s = scales[k / 8][3j..3j+2] with j = k / 2 % 4.
/// d is a binary16 whose nibbles, lowest first, are the top nibbles of scales[0..3].
struct BlockIQ1_M {
  static constexpr int kElements = 256;
  uint8_t q[32];
  uint8_t high[16];
  StoredHalf scales[4];
};
static_assert(sizeof(BlockIQ1_M) == 56);

// ---- 256 elements a block, ternary
// ---------------------------------------------------------------

/// d * (t - 1), t one of five base-3 digits of a byte that holds them as a fraction of 256 (the
/// byte is ceil(256 * n / 243)): digit k (0 first) is ((q * 3^k) % 256 * 3) / 256. Element i < 160
/// is digit i / 32 of q[i % 32]; 160 <= i < 240, with j = i - 160, digit j / 16 of q[32 + j % 16];
/// the last 16, with j = i - 240, digit j / 4 of tail[j % 4] (four digits a byte).
struct BlockTQ1_0 {
  static constexpr int kElements = 256;
  uint8_t q[48];
  uint8_t tail[4];
  StoredHalf d;
};
static_assert(sizeof(BlockTQ1_0) == 54);

/// d * (c(i) - 1), c(i) the 2-bit code of element i in q (3 decodes as 2).
struct BlockTQ2_0 {
  static constexpr int kElements = 256;
  uint8_t q[64];
  StoredHalf d;
};
static_assert(sizeof(BlockTQ2_0) == 66);

}  // namespace moxie
