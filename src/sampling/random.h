#pragma once

#include <bit>
#include <cstdint>

namespace moxie {

/// xoshiro256** 1.0 (Blackman and Vigna, "Scrambled Linear Pseudorandom Number Generators",
/// arXiv:1805.01407), its state filled by SplitMix64 (Steele et al., OOPSLA 2014). The standard's
/// distributions differ between libraries; this stream is the same everywhere.
class Random {
 public:
  explicit Random(uint64_t seed) {
    for (uint64_t& word : state_) {
      seed += 0x9e3779b97f4a7c15;
      uint64_t z = seed;
      z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
      z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
      word = z ^ (z >> 31);
    }
  }

  uint64_t Next() {
    const uint64_t result = std::rotl(state_[1] * 5, 7) * 9;
    const uint64_t t = state_[1] << 17;
    state_[2] ^= state_[0];
    state_[3] ^= state_[1];
    state_[1] ^= state_[2];
    state_[0] ^= state_[3];
    state_[2] ^= t;
    state_[3] = std::rotl(state_[3], 45);
    return result;
  }

  /// Uniform in [0, 1): the upper 53 bits, so every value is exact.
  double NextUniform() { return static_cast<double>(Next() >> 11) * 0x1p-53; }

 private:
  uint64_t state_[4];
};

}  // namespace moxie
