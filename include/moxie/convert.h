#pragma once

#include <cstdint>
#include <string>

#include "moxie/result.h"

namespace moxie {

struct UpcycleOptions {
  int64_t experts = 8;
  int64_t used = 2;
  double noise = 0;   ///< standard deviation of the routers' weights; 0: all zero
  uint64_t seed = 0;  ///< of the noise
};

/// Makes a mixture of a dense model (sparse upcycling, Komatsuzaki et al., arXiv:2212.05055): every
/// layer's feed-forward becomes `experts` equal copies behind a router, all else stays as it is, in
/// its own type. The weights of the chosen experts sum to 1, so the mixture computes the dense
/// model's function. With `noise` 0 every token goes to the first `used` experts with equal
/// weights, which is exact to the last bit where `used` is a power of two; with noise the routing
/// spreads and the sum rounds.
///
/// `in` is a GGUF of the llama family (Llama, Mistral, SmolLM2) or of Qwen3; `out` is a GGUF of the
/// mixture of that family. The file is written beside `out` and renamed when complete.
///
/// Errors: kInvalidInput for options out of range or a model that already is a mixture;
/// kUnsupported for other families; kIo.
Result<void> Upcycle(const std::string& in, const std::string& out, const UpcycleOptions& options);

}  // namespace moxie
