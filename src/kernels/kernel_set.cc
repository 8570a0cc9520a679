#include "kernels/kernel_set.h"

#include <array>

#include "core/cpu_features.h"
#include "kernels/scalar/scalar.h"
#include "quant/quantize.h"

#if defined(__x86_64__)
#include "kernels/amx/amx.h"
#include "kernels/avx2/avx2.h"
#include "kernels/avx512/avx512.h"
#elif defined(__aarch64__)
#include "kernels/neon/neon.h"
#endif

namespace moxie {
namespace {

#if defined(__x86_64__)
constexpr KernelSet kAvx2 = {
    .name = "avx2",
    .usable = [] { return UsableCpuFeatures().avx2; },
    .needs = "AVX2, FMA and F16C",
    .activation_format = avx2::FormatOfActivations,
    .convert_activations = avx2::ConvertActivations,
    .matmul = avx2::MatMul,
    .attention_scores = avx2::AttentionScores,
    .attention_values = avx2::AttentionValues,
    .rms_norm = avx2::RmsNorm,
    .exp_minus_max = avx2::ExpMinusMax,
    .silu_multiply = avx2::SiluMultiply,
    .add_scaled = avx2::AddScaled,
    .quantize = avx2::Quantize,
};

constexpr KernelSet kAvx512 = {
    .name = "avx512",
    .usable = [] { return UsableCpuFeatures().avx512; },
    .needs = "AVX-512 F, BW, DQ, VL and VNNI",
    .activation_format = avx512::FormatOfActivations,
    .convert_activations = avx512::ConvertActivations,
    .matmul = avx512::MatMul,
    .attention_scores = avx512::AttentionScores,
    .attention_values = avx512::AttentionValues,
    .rms_norm = avx512::RmsNorm,
    .exp_minus_max = avx512::ExpMinusMax,
    .silu_multiply = avx512::SiluMultiply,
    .add_scaled = avx512::AddScaled,
    .quantize = avx512::Quantize,
};

constexpr KernelSet kAmx = [] {
  KernelSet set = kAvx512;
  set.name = "amx";
  set.usable = [] { return UsableCpuFeatures().amx_int8; };
  set.needs = "AVX-512 VNNI, AMX int8 tiles and the system's permission to use them";
  set.matmul = amx::MatMul;
  return set;
}();

#elif defined(__aarch64__)
constexpr KernelSet kNeon = {
    .name = "neon",
    .usable = [] { return true; },
    .needs = "nothing",
    .activation_format = neon::FormatOfActivations,
    .convert_activations = neon::ConvertActivations,
    .matmul = neon::MatMul,
    .attention_scores = neon::AttentionScores,
    .attention_values = neon::AttentionValues,
    .rms_norm = neon::RmsNorm,
    .exp_minus_max = neon::ExpMinusMax,
    .silu_multiply = neon::SiluMultiply,
    .add_scaled = neon::AddScaled,
    .quantize = Quantize,  // Its lanes are a register's.
};
#endif

}  // namespace

std::span<const KernelSet* const> AllKernelSets() {
  static const std::array sets = {
    &ScalarKernels(),
#if defined(__x86_64__)
    &kAvx2,
    &kAvx512,
    &kAmx,
#elif defined(__aarch64__)
    &kNeon,
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
