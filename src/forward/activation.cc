#include "forward/activation.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

namespace moxie {
namespace {

/// x * Phi(x) in the tanh form of GPT-2 and Grok-1 (arXiv:1606.08415, section 2).
float Gelu(float x) {
  constexpr float kScale = std::numbers::sqrt2_v<float> * std::numbers::inv_sqrtpi_v<float>;
  return 0.5f * x * (1.0f + std::tanh(kScale * (x + 0.044715f * x * x * x)));
}

}  // namespace

void ApplyActivation(const KernelSet& kernels, const GatedActivation& activation,
                     std::span<float> gate, std::span<const float> up) {
  switch (activation.kind) {
    case Activation::kSilu:
      kernels.silu_multiply(gate.data(), up.data(), std::ssize(gate));
      return;
    case Activation::kGelu:
      for (size_t i = 0; i < gate.size(); ++i) gate[i] = Gelu(gate[i]) * up[i];
      return;
    case Activation::kClampedSwiglu: {
      const float limit =
          activation.limit > 0 ? activation.limit : std::numeric_limits<float>::infinity();
      for (size_t i = 0; i < gate.size(); ++i) {
        const float g = std::min(gate[i], limit);
        const float u = std::clamp(up[i], -limit, limit);
        gate[i] = (u + 1.0f) * (g / (1.0f + std::exp(-activation.alpha * g)));
      }
      return;
    }
  }
}

}  // namespace moxie
