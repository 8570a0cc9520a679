#include "kernels/kernel_set.h"

#include <array>

#include "core/cpu_features.h"
#include "kernels/scalar/scalar.h"

#if defined(__x86_64__)
#include "kernels/avx2/avx2.h"
#endif

namespace moxie {
namespace {

#if defined(__x86_64__)
constexpr KernelSet kAvx2 = {
    .name = "avx2",
    .usable = [] { return UsableCpuFeatures().avx2; },
    .activation_format = avx2::FormatOfActivations,
    .convert_activations = avx2::ConvertActivations,
    .matmul = avx2::MatMul,
    .attention_scores = avx2::AttentionScores,
    .attention_values = avx2::AttentionValues,
    .rms_norm = avx2::RmsNorm,
    .exp_minus_max = avx2::ExpMinusMax,
    .silu_multiply = avx2::SiluMultiply,
    .add_scaled = avx2::AddScaled,
};
#endif

}  // namespace

std::span<const KernelSet* const> AllKernelSets() {
  static const std::array sets = {
    &ScalarKernels(),
#if defined(__x86_64__)
    &kAvx2,
#endif
  };
  return sets;
}

const KernelSet& BestKernelSet() {
  const KernelSet* best = &ScalarKernels();
  for (const KernelSet* set : AllKernelSets()) {
    if (set->usable()) best = set;
  }
  return *best;
}

const KernelSet* FindKernelSet(std::string_view name) {
  for (const KernelSet* set : AllKernelSets()) {
    if (set->name == name && set->usable()) return set;
  }
  return nullptr;
}

}  // namespace moxie
