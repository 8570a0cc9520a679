#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/config.h"

namespace moxie {

/// The angle by which each pair of dimensions turns a position, with the scaling of `config`
/// applied: none, linear, llama3, or YaRN (arXiv:2309.00071, section 3.2). Computed in float32
/// in the order of Hugging Face's code, since models were trained with its roundings.
/// [dims / 2]
std::vector<float> RopeFrequencies(const RopeConfig& config);

/// Rotary position embedding (arXiv:2104.09864) of the tokens of one forward pass.
class Rope {
 public:
  /// `max_tokens`: positions that Prepare will be given at most.
  Rope(const RopeConfig& config, int64_t max_tokens);
  /// What one takes.
  static int64_t BytesFor(const RopeConfig& config, int64_t max_tokens) {
    return max_tokens * (config.dims / 2) * 2 * static_cast<int64_t>(sizeof(float));
  }

  /// Computes cosines and sines for these positions, once for all layers. Allocates nothing.
  void Prepare(std::span<const int64_t> positions);

  /// Rotates the first `dims` elements of a head for the position of Prepare's `token`, in place.
  /// Safe to call concurrently.
  void Rotate(int64_t token, float* head) const;

 private:
  RopeLayout layout_;
  int64_t half_;
  float attention_factor_;
  std::vector<float> frequencies_;
  std::vector<float> cosines_, sines_;  ///< [max_tokens, half]
};

}  // namespace moxie
