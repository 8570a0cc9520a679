#pragma once

#include "quant/encode_super_blocks.h"

namespace moxie::lanes {
namespace {

// Encoders of four-bit codes that index a fixed table of 16 values (codebooks.h).

template <>
constexpr int kGroupSize<BlockIQ4_XS> = 32;

/// The codes of kIq4Values.
struct Iq4Codes {
  static constexpr float kLowest = -127;
  static constexpr float kHighest = 113;
  static constexpr float kSpacing = 20;
  static constexpr bool kFine = false;

  // A ratio at or above the middle of two values takes the higher.
  template <class V>
  MOXIE_LANES V Nearest(V ratios) {
    V nearest = Splat<V>(kLowest);
    MOXIE_UNROLL_LANES
    for (int k = 0; k < 15; ++k) nearest = ratios >= Middle(k) ? Splat<V>(kValue[k + 1]) : nearest;
    return nearest;
  }
  template <class I, class V>
  MOXIE_LANES I CodeOf(V values) {
    I code{};
    MOXIE_UNROLL_LANES
    for (int k = 0; k < 15; ++k) code -= values >= Middle(k);
    return code;
  }

 private:
  static constexpr float kValue[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                       1,    13,   25,  38,  53,  69,  89,  113};
  /// Between values k and k + 1.
  MOXIE_LANES float Middle(int k) { return 0.5f * (kValue[k] + kValue[k + 1]); }
};

/// The codes of kMxfp4Values; of two values equally near the one nearer to zero, of the two zeros
/// the first.
struct Mxfp4Codes {
  template <class V>
  MOXIE_LANES V Nearest(V ratios) {
    const V magnitude = Abs(ratios);
    V nearest{};
    MOXIE_UNROLL_LANES
    for (int k = 0; k < 7; ++k)
      nearest = magnitude > kMiddle[k] ? Splat<V>(kValue[k + 1]) : nearest;
    return ratios < 0.0f ? -nearest : nearest;
  }
  template <class I, class V>
  MOXIE_LANES I CodeOf(V values) {
    const V magnitude = Abs(values);
    I code = (values < 0.0f) & 8;
    MOXIE_UNROLL_LANES
    for (int k = 0; k < 7; ++k) code -= magnitude > kMiddle[k];
    return code;
  }

 private:
  static constexpr float kValue[8] = {0, 1, 2, 3, 4, 6, 8, 12};
  static constexpr float kMiddle[7] = {0.5f, 1.5f, 2.5f, 3.5f, 5, 7, 10};
};

template <int N, class Batch>
void EncodeBatch(const Batch& batch, BlockIQ4_NL (&blocks)[kBatch]) {
  StoredHalves d;
  Codes<32> codes;
  EncodeScaled<Iq4Codes, N>(batch, d, codes);
  for (int g = 0; g < kBatch; ++g) {
    SetHalf(blocks[g].d, d.bits[g]);
    PackNibbles(codes.of[g], blocks[g].q);
  }
}

template <int N, class Batch>
void EncodeBatch(const Batch& batch, BlockIQ4_XS (&blocks)[2]) {
  SuperScales scales;
  Codes<32> codes;
  StoredHalves d;
  EncodeSuperScales<Iq4Codes, N>(batch, -32, 31, scales, d, codes);
  for (int b = 0; b < 2; ++b) {
    BlockIQ4_XS& block = blocks[b];
    SetHalf(block.d, d.bits[8 * b]);
    int high = 0;
    for (uint8_t& low : block.scales_low) low = 0;
    for (int g = 0; g < 8; ++g) {
      const int scale = static_cast<int>(scales.scale.of[8 * b + g]) + 32;
      high |= (scale >> 4) << (2 * g);
      uint8_t& low = block.scales_low[g / 2];
      low = static_cast<uint8_t>(low | (scale & 15) << (4 * (g % 2)));
      uint8_t q[16];
      PackNibbles(codes.of[8 * b + g], q);
      __builtin_memcpy(block.q + 16 * g, q, 16);
    }
    SetHalf(block.scales_high, high);
  }
}

/// 2^n for -126 <= n <= 127.
template <class V, class I>
MOXIE_LANES V PowerOfTwo(I n) {
  return Bits<V>((n + 127) << 23);
}

// The scale is a power of two: the one for which the extreme lies in the top binade of the table
// [8, 16), or one of its two neighbours.
template <int N, class Batch>
void EncodeBatch(const Batch& batch, BlockMXFP4 (&blocks)[kBatch]) {
  using V = Floats<N>;
  using I = Ints<N>;
  Codes<32> codes;
  int32_t exponents[kBatch];
  Batch scaled;
  if constexpr (Batch::kWeighted)
    __builtin_memcpy(scaled.weight, batch.weight, sizeof(batch.weight));
  for (int g = 0; g < kBatch; g += N) {
    const Groups<N, Batch> groups = {batch, g};
    const V extreme = Abs(ExtremeOf(groups));
    I binade = (Bits<I>(extreme) >> 23) - (127 + 3);
    binade = binade < -128 ? I{} - 128 : binade;
    // Elements in units of the middle scale, so that the errors cannot overflow; 2^128 is no float.
    const V first = PowerOfTwo<V>(-(binade >> 1));
    const V second = PowerOfTwo<V>(-(binade - (binade >> 1)));
    for (int i = 0; i < 32; ++i) {
      const V x = Clamp(groups.X(i) * first * second, -64, 64);
      Store(scaled.x + i * kBatch + g, x);
    }
    const Groups<N, Batch> unit = {scaled, g};
    I best{};
    V least = Splat<V>(kGreatestFloat);
    for (const int step : {0, -1, 1}) {
      const V error = ErrorOf<Mxfp4Codes>(unit, Splat<V>(step < 0 ? 0.5f : step > 0 ? 2.0f : 1.0f));
      // Below, E8M0 ends; above, a code of the greatest finite floats would decode to infinity.
      const I better = (error < least) & (binade + step >= -128) & (binade + step <= 124);
      best = better ? I{} + step : best;
      least = better ? error : least;
    }
    Store(exponents + g, binade + best + 128);
    AssignCodes<Mxfp4Codes>(unit, PowerOfTwo<V>(best), codes);
  }
  for (int g = 0; g < kBatch; ++g) {
    blocks[g].e = static_cast<uint8_t>(exponents[g]);
    PackNibbles(codes.of[g], blocks[g].q);
  }
}

}  // namespace
}  // namespace moxie::lanes
