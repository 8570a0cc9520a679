#include "engine/divergence.h"

#include <algorithm>
#include <cmath>

namespace moxie {

double LogSumOfExponentials(std::span<const float> logits) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - largest);
  return std::log(sum) + largest;
}

double KullbackLeibler(std::span<const float> base, double base_log, std::span<const float> other) {
  const double other_log = LogSumOfExponentials(other);
  double sum = 0;
  for (size_t i = 0; i < base.size(); ++i) {
    const double log_p = base[i] - base_log;
    sum += std::exp(log_p) * (log_p - (other[i] - other_log));
  }
  return std::max(0.0, sum);
}

}  // namespace moxie
