#pragma once

#include <cstring>

namespace moxie {

/// Four floats that g++ and clang keep in one vector register of whatever the target has (their
/// common vector extension, so +, -, * and comparisons work lane by lane). Sums over groups go
/// through it: a compiler may not reorder a scalar float sum, so would not vectorise one.
using Lanes = float __attribute__((vector_size(16)));
inline constexpr int kLanes = 4;

inline Lanes LoadLanes(const float* x) {
  Lanes lanes;
  std::memcpy(&lanes, x, sizeof(lanes));
  return lanes;
}

inline Lanes Splat(float x) { return Lanes{x, x, x, x}; }

inline float SumOf(Lanes lanes) { return (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]); }

inline Lanes ClampLanes(Lanes x, float lowest, float highest) {
  x = x < Splat(lowest) ? Splat(lowest) : x;
  return x > Splat(highest) ? Splat(highest) : x;
}

/// Added to a number below 2^22 in magnitude, it leaves no room for fractions: the sum is rounded
/// to the nearest integer (ties to even), which its low bits are.
inline constexpr float kRoundingShift = 0x1.8p23f;

/// The nearest integers (ties to even) of numbers below 2^22 in magnitude.
inline Lanes RoundSmall(Lanes x) { return (x + Splat(kRoundingShift)) - Splat(kRoundingShift); }
inline float RoundSmall(float x) { return (x + kRoundingShift) - kRoundingShift; }

}  // namespace moxie
