#pragma once

#include <arm_neon.h>

#include "kernels/lanes/floats.h"

namespace moxie::neon {
namespace {

/// A vector of eight 32-bit lanes, for the formats (lanes/unpack.h), as x86/eight_lanes.h: two
/// registers. Functions are named by the width of what they act on.
struct EightLanes {
  struct Ints {
    uint8x16_t low;
    uint8x16_t high;
  };
  struct Floats {
    float32x4_t low;
    float32x4_t high;
  };

  MOXIE_INLINE Ints Load(const void* p) {
    const auto* bytes = static_cast<const uint8_t*>(p);
    return {vld1q_u8(bytes), vld1q_u8(bytes + 16)};
  }
  MOXIE_INLINE Ints Set8(int value) { return Twice(vdupq_n_u8(static_cast<uint8_t>(value))); }
  MOXIE_INLINE Ints Set16(int value) {
    return Twice(vreinterpretq_u8_u16(vdupq_n_u16(static_cast<uint16_t>(value))));
  }
  MOXIE_INLINE Ints Set32(int value) { return Twice(vreinterpretq_u8_s32(vdupq_n_s32(value))); }

  MOXIE_INLINE Ints Set64(uint64_t a, uint64_t b, uint64_t c, uint64_t d) {
    return {vcombine_u8(vcreate_u8(a), vcreate_u8(b)), vcombine_u8(vcreate_u8(c), vcreate_u8(d))};
  }
  MOXIE_INLINE Ints Set32(uint32_t a, uint32_t b, uint32_t c, uint32_t d, uint32_t e, uint32_t f,
                          uint32_t g, uint32_t h) {
    const auto both = [](uint32_t low, uint32_t high) { return low | uint64_t{high} << 32; };
    return Set64(both(a, b), both(c, d), both(e, f), both(g, h));
  }

  MOXIE_INLINE Ints And(Ints a, Ints b) { return {a.low & b.low, a.high & b.high}; }
  MOXIE_INLINE Ints Or(Ints a, Ints b) { return {a.low | b.low, a.high | b.high}; }
  MOXIE_INLINE Ints Xor(Ints a, Ints b) { return {a.low ^ b.low, a.high ^ b.high}; }
  MOXIE_INLINE Ints Add8(Ints a, Ints b) { return {a.low + b.low, a.high + b.high}; }
  MOXIE_INLINE Ints Sub8(Ints a, Ints b) { return {a.low - b.low, a.high - b.high}; }
  MOXIE_INLINE Ints Sub32(Ints a, Ints b) {
    return From(Low32(a) - Low32(b), High32(a) - High32(b));
  }
  MOXIE_INLINE Ints Mul16(Ints a, Ints b) {
    return From(Low16(a) * Low16(b), High16(a) * High16(b));
  }
  MOXIE_INLINE Ints Left16(Ints v, int n) { return From(Low16(v) << n, High16(v) << n); }
  MOXIE_INLINE Ints Right16(Ints v, int n) { return From(Low16(v) >> n, High16(v) >> n); }
  MOXIE_INLINE Ints Left32(Ints v, int n) { return From(Low32(v) << n, High32(v) << n); }
  MOXIE_INLINE Ints Right32(Ints v, int n) { return From(Low32(v) >> n, High32(v) >> n); }
  // By what each lane says; 32 and more leave nothing.
  MOXIE_INLINE Ints Left32(Ints v, Ints n) {
    return From(vshlq_u32(Low32(v), vreinterpretq_s32_u8(n.low)),
                vshlq_u32(High32(v), vreinterpretq_s32_u8(n.high)));
  }
  MOXIE_INLINE Ints Right32(Ints v, Ints n) {
    return From(vshlq_u32(Low32(v), vnegq_s32(vreinterpretq_s32_u8(n.low))),
                vshlq_u32(High32(v), vnegq_s32(vreinterpretq_s32_u8(n.high))));
  }
  /// a > b ? greater : otherwise
  MOXIE_INLINE Ints IfGreater32(Ints a, Ints b, Ints greater, Ints otherwise) {
    const auto half = [](uint8x16_t x, uint8x16_t y, uint8x16_t yes, uint8x16_t no) {
      const uint32x4_t is_greater = vcgtq_s32(vreinterpretq_s32_u8(x), vreinterpretq_s32_u8(y));
      return vbslq_u8(vreinterpretq_u8_u32(is_greater), yes, no);
    };
    return {half(a.low, b.low, greater.low, otherwise.low),
            half(a.high, b.high, greater.high, otherwise.high)};
  }

  MOXIE_INLINE Floats ToFloats(Ints v) {
    return {vcvtq_f32_s32(vreinterpretq_s32_u8(v.low)),
            vcvtq_f32_s32(vreinterpretq_s32_u8(v.high))};
  }
  MOXIE_INLINE Floats AsFloats(Ints v) {
    return {vreinterpretq_f32_u8(v.low), vreinterpretq_f32_u8(v.high)};
  }
  MOXIE_INLINE Floats SetFloats(float value) { return {vdupq_n_f32(value), vdupq_n_f32(value)}; }
  MOXIE_INLINE Floats Add(Floats a, Floats b) { return {a.low + b.low, a.high + b.high}; }
  MOXIE_INLINE Floats Mul(Floats a, Floats b) { return {a.low * b.low, a.high * b.high}; }

  /// 16 bytes' low nibbles, then their high ones, as bytes.
  MOXIE_INLINE Ints Nibbles(const uint8_t* p) {
    const uint8x16_t packed = vld1q_u8(p);
    return {vandq_u8(packed, vdupq_n_u8(15)), vshrq_n_u8(packed, 4)};
  }
  /// Bit i of `bits`, for i < 32, as byte i: 0 or -1.
  MOXIE_INLINE Ints MasksOfBits(uint32_t bits) {
    const uint8x16_t bit = vreinterpretq_u8_u64(vdupq_n_u64(0x8040201008040201ull));
    const uint8x16_t bytes = vreinterpretq_u8_u32(vdupq_n_u32(bits));
    const auto half = [&](uint8_t first, uint8_t second) {
      const uint8x16_t places = vcombine_u8(vdup_n_u8(first), vdup_n_u8(second));
      return vtstq_u8(vqtbl1q_u8(bytes, places), bit);
    };
    return {half(0, 1), half(2, 3)};
  }
  /// Of the 16 bytes at `table`, those in the places `codes`.
  MOXIE_INLINE Ints LookUp(const void* table, Ints codes) {
    const uint8x16_t bytes = vld1q_u8(static_cast<const uint8_t*>(table));
    return {vqtbl1q_u8(bytes, codes.low), vqtbl1q_u8(bytes, codes.high)};
  }
  /// 16 bytes, each in 16 bits; and such of up to 8 bits as bytes, those of `a` first.
  MOXIE_INLINE Ints Bytes16At(const void* p) {
    const uint8x16_t bytes = vld1q_u8(static_cast<const uint8_t*>(p));
    return From(vmovl_u8(vget_low_u8(bytes)), vmovl_high_u8(bytes));
  }
  MOXIE_INLINE Ints WordsToBytes(Ints a, Ints b) {
    return {vuzp1q_u8(a.low, a.high), vuzp1q_u8(b.low, b.high)};
  }
  /// Eight bytes, unsigned or signed, each in 32 bits.
  MOXIE_INLINE Ints FromBytes(uint64_t bytes) { return Widened(vmovl_u8(vcreate_u8(bytes))); }
  MOXIE_INLINE Ints FromSignedBytes(uint64_t bytes) {
    const int16x8_t words = vmovl_s8(vcreate_s8(bytes));
    return {vreinterpretq_u8_s32(vmovl_s16(vget_low_s16(words))),
            vreinterpretq_u8_s32(vmovl_high_s16(words))};
  }
  /// 16-bit words, each in 32 bits.
  MOXIE_INLINE Ints WordsAt(const void* p) {
    return Widened(vreinterpretq_u16_u8(vld1q_u8(static_cast<const uint8_t*>(p))));
  }
  /// 0, n, 2 n ...
  template <int n>
  MOXIE_INLINE Ints Multiples() {
    static constexpr uint32_t kMultiples[8] = {0, n, 2 * n, 3 * n, 4 * n, 5 * n, 6 * n, 7 * n};
    return Load(kMultiples);
  }
  MOXIE_INLINE void WithNinthBits(const void* p, uint32_t high, uint64_t (&words)[2]) {
    static constexpr int16_t kLeft[8] = {8, 7, 6, 5, 4, 3, 2, 1};
    const uint16x8_t low = vmovl_u8(vld1_u8(static_cast<const uint8_t*>(p)));
    const uint16x8_t bits = vshlq_u16(vdupq_n_u16(static_cast<uint16_t>(high)), vld1q_s16(kLeft));
    const uint64x2_t all = vreinterpretq_u64_u16(low | (bits & vdupq_n_u16(256)));
    words[0] = vgetq_lane_u64(all, 0);
    words[1] = vgetq_lane_u64(all, 1);
  }
  MOXIE_INLINE float HalfAt(const void* p) {
    __fp16 half;
    lanes::CopyBytes(&half, p, sizeof(half));
    return half;
  }
  /// Eight binary16 numbers, `stride` bytes apart.
  template <int stride>
  MOXIE_INLINE Floats HalvesApart(const uint8_t* p) {
    uint16x8_t bits = vdupq_n_u16(Word(p));
    bits = vsetq_lane_u16(Word(p + stride), bits, 1);
    bits = vsetq_lane_u16(Word(p + 2 * stride), bits, 2);
    bits = vsetq_lane_u16(Word(p + 3 * stride), bits, 3);
    bits = vsetq_lane_u16(Word(p + 4 * stride), bits, 4);
    bits = vsetq_lane_u16(Word(p + 5 * stride), bits, 5);
    bits = vsetq_lane_u16(Word(p + 6 * stride), bits, 6);
    bits = vsetq_lane_u16(Word(p + 7 * stride), bits, 7);
    const float16x8_t halves = vreinterpretq_f16_u16(bits);
    return {vcvt_f32_f16(vget_low_f16(halves)), vcvt_high_f32_f16(halves)};
  }
  /// Eight bytes, `stride` bytes apart, each in 32 bits.
  template <int stride>
  MOXIE_INLINE Ints BytesApart(const uint8_t* p) {
    uint64_t bytes = 0;
    MOXIE_UNROLL
    for (int k = 0; k < 8; ++k) bytes |= uint64_t{p[k * stride]} << (8 * k);
    return FromBytes(bytes);
  }

 private:
  MOXIE_INLINE Ints Twice(uint8x16_t v) { return {v, v}; }
  MOXIE_INLINE uint16x8_t Low16(Ints v) { return vreinterpretq_u16_u8(v.low); }
  MOXIE_INLINE uint16x8_t High16(Ints v) { return vreinterpretq_u16_u8(v.high); }
  MOXIE_INLINE uint32x4_t Low32(Ints v) { return vreinterpretq_u32_u8(v.low); }
  MOXIE_INLINE uint32x4_t High32(Ints v) { return vreinterpretq_u32_u8(v.high); }
  MOXIE_INLINE Ints From(uint16x8_t low, uint16x8_t high) {
    return {vreinterpretq_u8_u16(low), vreinterpretq_u8_u16(high)};
  }
  MOXIE_INLINE Ints From(uint32x4_t low, uint32x4_t high) {
    return {vreinterpretq_u8_u32(low), vreinterpretq_u8_u32(high)};
  }
  MOXIE_INLINE Ints Widened(uint16x8_t words) {
    return From(vmovl_u16(vget_low_u16(words)), vmovl_high_u16(words));
  }
  MOXIE_INLINE uint16_t Word(const uint8_t* p) { return static_cast<uint16_t>(lanes::LoadU16(p)); }
};

}  // namespace
}  // namespace moxie::neon
