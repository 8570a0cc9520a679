#pragma once

#include <arm_neon.h>

#include "kernels/lanes/floats.h"

namespace moxie::neon {
namespace {

/// The vector of floats of lanes/floats.h.
struct Floats {
  using Vector = float32x4_t;
  static constexpr int64_t kLanes = 4;

  MOXIE_INLINE Vector InRegister(Vector v) { return v; }
  MOXIE_INLINE Vector Zero() { return vdupq_n_f32(0.0f); }
  MOXIE_INLINE Vector Set(float x) { return vdupq_n_f32(x); }
  MOXIE_INLINE Vector Load(const float* p) { return vld1q_f32(p); }
  MOXIE_INLINE Vector LoadFirst(const float* p, int64_t n) {
    float lanes[kLanes] = {};
    lanes::CopyBytes(lanes, p, n * 4);
    return vld1q_f32(lanes);
  }
  MOXIE_INLINE void Store(float* p, Vector v) { vst1q_f32(p, v); }
  MOXIE_INLINE void StoreFirst(float* p, Vector v, int64_t n) {
    float lanes[kLanes];
    vst1q_f32(lanes, v);
    lanes::CopyBytes(p, lanes, n * 4);
  }

  MOXIE_INLINE Vector Add(Vector a, Vector b) { return vaddq_f32(a, b); }
  MOXIE_INLINE Vector Sub(Vector a, Vector b) { return vsubq_f32(a, b); }
  MOXIE_INLINE Vector Mul(Vector a, Vector b) { return vmulq_f32(a, b); }
  MOXIE_INLINE Vector Div(Vector a, Vector b) { return vdivq_f32(a, b); }
  // Not vminq and vmaxq, which give NaN where either is one.
  MOXIE_INLINE Vector Min(Vector a, Vector b) { return vbslq_f32(vcltq_f32(a, b), a, b); }
  MOXIE_INLINE Vector Max(Vector a, Vector b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
  MOXIE_INLINE Vector MulAdd(Vector a, Vector b, Vector c) { return vfmaq_f32(c, a, b); }
  MOXIE_INLINE Vector NegMulAdd(Vector a, Vector b, Vector c) { return vfmsq_f32(c, a, b); }
  MOXIE_INLINE Vector Round(Vector v) { return vrndnq_f32(v); }
  MOXIE_INLINE Vector TimesPowerOfTwo(Vector v, Vector n) {
    const int32x4_t exponent = vshlq_n_s32(vcvtnq_s32_f32(n), 23);
    return vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(v), exponent));
  }
  MOXIE_INLINE Vector ZeroIfLess(Vector v, Vector x, Vector limit) {
    return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(v), vcltq_f32(x, limit)));
  }
  MOXIE_INLINE Vector KeepNaN(Vector v, Vector x) { return vbslq_f32(vceqq_f32(x, x), v, x); }

  MOXIE_INLINE float HalfAt(const void* p) {
    __fp16 half;
    lanes::CopyBytes(&half, p, sizeof(half));
    return half;
  }
  MOXIE_INLINE Vector FromHalf(const void* p) {
    return vcvt_f32_f16(vreinterpret_f16_u16(Load4Words(p)));
  }
  MOXIE_INLINE Vector FromBfloat16(const void* p) {
    return vreinterpretq_f32_u32(vshll_n_u16(Load4Words(p), 16));
  }
  MOXIE_INLINE Vector FromInt8(const void* p) {
    uint32_t bytes;
    lanes::CopyBytes(&bytes, p, sizeof(bytes));
    const int16x8_t words = vmovl_s8(vreinterpret_s8_u32(vdup_n_u32(bytes)));
    return vcvtq_f32_s32(vmovl_s16(vget_low_s16(words)));
  }

  MOXIE_INLINE float Sum(Vector v) { return vaddvq_f32(v); }
  MOXIE_INLINE void StoreSums4(float* p, const Vector* v, float scale, int64_t n) {
    const Vector sums = vpaddq_f32(vpaddq_f32(v[0], v[1]), vpaddq_f32(v[2], v[3]));
    lanes::StoreUpTo<Floats>(p, vmulq_n_f32(sums, scale), n);
  }

  struct Doubles {
    float64x2_t low = vdupq_n_f64(0.0);
    float64x2_t high = vdupq_n_f64(0.0);
  };
  MOXIE_INLINE void AddTo(Doubles& sums, Vector v) {
    sums.low = vaddq_f64(sums.low, vcvt_f64_f32(vget_low_f32(v)));
    sums.high = vaddq_f64(sums.high, vcvt_high_f64_f32(v));
  }
  MOXIE_INLINE void AddSquares(Doubles& sums, Vector v) {
    const float64x2_t low = vcvt_f64_f32(vget_low_f32(v));
    const float64x2_t high = vcvt_high_f64_f32(v);
    sums.low = vfmaq_f64(sums.low, low, low);
    sums.high = vfmaq_f64(sums.high, high, high);
  }
  MOXIE_INLINE double Sum(Doubles sums) { return vaddvq_f64(vaddq_f64(sums.low, sums.high)); }

 private:
  MOXIE_INLINE uint16x4_t Load4Words(const void* p) {
    uint16_t words[4];
    lanes::CopyBytes(words, p, sizeof(words));
    return vld1_u16(words);
  }
};

}  // namespace
}  // namespace moxie::neon
