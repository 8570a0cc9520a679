#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/lanes/inlining.h"

// This folder holds what every vector set does alike, as templates over the set's vector of
// floats. Such a struct F offers, as static functions:
//
//   kLanes                      float32 lanes of an F::Vector
//   Zero() Set(x)               all lanes
//   InRegister(v)               v, which no use loads again
//   Load(p) Store(p, v)         kLanes floats at any address; LoadFirst(p, n), StoreFirst(p, v, n)
//                               touch n < kLanes of them, the other lanes load as zeros
//   Add Sub Mul Div Min Max     of two vectors; Min and Max give the second where one is NaN
//   MulAdd(a, b, c)             a * b + c with one rounding; NegMulAdd: c - a * b
//   Round(v)                    to the nearest integer, ties to even
//   TimesPowerOfTwo(v, n)       v * 2^n for integers n with normal results
//   ZeroIfLess(v, x, limit)     v, but 0 where x < limit
//   KeepNaN(v, x)               v, but x where x is NaN
//   FromHalf(p) FromBfloat16(p) FromInt8(p)   kLanes numbers at any address, exact
//   Sum(v)                      of the lanes, always in the same order
//   Transpose(v)                kLanes vectors (optional)
//   StoreSums4(p, v, scale, n)  scale * the sums of four vectors' lanes, the first n of them
//   HalfAt(p)                   one binary16
//   Doubles                     sums in float64: Doubles() is zero; AddTo(sums, v),
//                               AddSquares(sums, v), Sum(sums)
//
// Everything here has internal linkage: a file that is compiled with instruction-set flags must not
// define a symbol that the linker could choose for the rest of the program.

namespace moxie::lanes {
namespace {

MOXIE_INLINE int64_t Min(int64_t a, int64_t b) { return a < b ? a : b; }

MOXIE_INLINE void CopyBytes(void* to, const void* from, int64_t bytes) {
  __builtin_memcpy(to, from, static_cast<size_t>(bytes));
}

MOXIE_INLINE uint32_t LoadU16(const void* p) {
  uint16_t value;
  __builtin_memcpy(&value, p, sizeof(value));
  return value;
}

MOXIE_INLINE uint32_t LoadU32(const void* p) {
  uint32_t value;
  __builtin_memcpy(&value, p, sizeof(value));
  return value;
}

MOXIE_INLINE uint64_t LoadU64(const void* p) {
  uint64_t value;
  __builtin_memcpy(&value, p, sizeof(value));
  return value;
}

template <class F>
MOXIE_INLINE typename F::Vector LoadUpTo(const float* p, int64_t n) {
  return n >= F::kLanes ? F::Load(p) : F::LoadFirst(p, n);
}

template <class F>
MOXIE_INLINE void StoreUpTo(float* p, typename F::Vector v, int64_t n) {
  if (n >= F::kLanes) {
    F::Store(p, v);
  } else {
    F::StoreFirst(p, v, n);
  }
}

}  // namespace
}  // namespace moxie::lanes
