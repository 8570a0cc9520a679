#pragma once

#include <span>

namespace moxie {

/// log sum exp of the logits of one position, in double precision.
double LogSumOfExponentials(std::span<const float> logits);

/// The Kullback-Leibler divergence in nats of the probabilities that `other` gives from those of
/// `base`, both logits over one vocabulary: sum p (log p - log q), in double precision. `base_log`
/// is the base's LogSumOfExponentials.
double KullbackLeibler(std::span<const float> base, double base_log, std::span<const float> other);

}  // namespace moxie
