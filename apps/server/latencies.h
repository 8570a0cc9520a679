#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

namespace moxie::server {

/// Counts of times in seconds, by upper bound; the last count is of everything above.
struct Histogram {
  static constexpr std::array kBounds = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,
                                         0.25,  0.5,    1.0,   2.5,  5.0,   10.0, 60.0};
  std::array<int64_t, kBounds.size() + 1> counts{};
  double sum = 0;

  void Add(double seconds) {
    const auto bound = std::lower_bound(kBounds.begin(), kBounds.end(), seconds);
    ++counts[static_cast<size_t>(bound - kBounds.begin())];
    sum += seconds;
  }
};

struct Latencies {
  Histogram first_token;
  Histogram between_tokens;
  Histogram queue;
};

}  // namespace moxie::server
