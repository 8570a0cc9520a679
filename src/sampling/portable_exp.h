#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

namespace moxie {

/// exp(x) for x <= 0, by additions and multiplications in a fixed order, so that it gives the same
/// bits on every machine; libm's functions do not. Relative error below 1e-15; below -700 it is 0.
///
/// Range reduction x = k ln 2 + r, |r| <= ln(2)/2, with ln 2 in two parts (Cody and Waite), then
/// Taylor's series of exp(r) to degree 13, whose remainder is 0.35^14 / 14! < 5e-18.
inline double PortableExp(double x) {
  if (!(x > -700.0)) return 0.0;
  const double k = std::floor(x * 1.4426950408889634 + 0.5);
  const double r = (x - k * 0x1.62e42fee00000p-1) - k * 0x1.a39ef35793c76p-33;
  double sum = 1.0;
  for (int n = 13; n >= 1; --n) sum = 1.0 + sum * r / n;
  // 2^k by its exponent bits: k is above -1011, so the result is a normal number.
  return sum * std::bit_cast<double>(static_cast<uint64_t>(static_cast<int64_t>(k) + 1023) << 52);
}

}  // namespace moxie
