#include "kernels/kernel_set.h"

#include <array>

#include "core/cpu_features.h"
#include "kernels/scalar/scalar.h"
#include "quant/quantize.h"

#if defined(__x86_64__)
#include "kernels/amx/amx.h"
#include "kernels/avx2/avx2.h"
#include "kernels/avx512/avx512.h"
#include "kernels/avx512_bf16/avx512_bf16.h"
#elif defined(__aarch64__)
#include "kernels/neon/neon.h"
#include "kernels/neon_dot/neon_dot.h"
#include "kernels/neon_i8mm/neon_i8mm.h"
#endif

namespace moxie {
namespace {

#if defined(__x86_64__)
/// The fewest tokens for which queries fill lanes.
constexpr int64_t kLeastTiledTokens = 8;

/// `set`, whose attention does not depend on the number of tokens, with one that does.
constexpr KernelSet WithAttention(const KernelSet& set, const TiledAttention& attention) {
  KernelSet with = set;
  with.tiled_attention = &attention;
  with.batch_invariant = &set;
  return with;
}

constexpr KernelSet kAvx2BatchInvariant = {
    .name = "avx2",
    .usable = [] { return UsableCpuFeatures().avx2; },
    .needs = "AVX2, FMA and F16C",
    MOXIE_KERNELS_OF(avx2),
    .quantize = avx2::Quantize,
    .packed_rows = avx2::PackedRowsOf,
    .pack = avx2::Pack,
    .unpack_row = avx2::UnpackRow,
};
constexpr TiledAttention kAvx2Attention = {
    .least_tokens = kLeastTiledTokens,
    .scratch_bytes = avx2::AttentionScratchBytes,
    .attend = avx2::Attend,
};
constexpr KernelSet kAvx2 = WithAttention(kAvx2BatchInvariant, kAvx2Attention);

constexpr KernelSet kAvx512BatchInvariant = {
    .name = "avx512",
    .usable = [] { return UsableCpuFeatures().avx512; },
    .needs = "AVX-512 F, BW, DQ, VL and VNNI",
    MOXIE_KERNELS_OF(avx512),
    .quantize = avx512::Quantize,
    .packed_rows = avx512::PackedRowsOf,
    .pack = avx512::Pack,
    .unpack_row = avx512::UnpackRow,
};
constexpr TiledAttention kAvx512Attention = {
    .least_tokens = kLeastTiledTokens,
    .scratch_bytes = avx512::AttentionScratchBytes,
    .attend = avx512::Attend,
};
constexpr KernelSet kAvx512 = WithAttention(kAvx512BatchInvariant, kAvx512Attention);

constexpr KernelSet kAvx512Bf16BatchInvariant = [] {
  KernelSet set = kAvx512BatchInvariant;
  set.name = "avx512_bf16";
  set.usable = [] { return UsableCpuFeatures().avx512_bf16; };
  set.needs = "AVX-512 F, BW, DQ, VL, VNNI and BF16";
  return set;
}();
constexpr KernelSet kAvx512Bf16 = [] {
  KernelSet set = WithAttention(kAvx512Bf16BatchInvariant, kAvx512Attention);
  set.activation_format = avx512_bf16::FormatOfActivations;
  set.convert_activations = avx512_bf16::ConvertActivations;
  set.matmul = avx512_bf16::MatMul;
  return set;
}();

constexpr KernelSet kAmxBatchInvariant = [] {
  KernelSet set = kAvx512BatchInvariant;
  set.name = "amx";
  set.usable = [] { return UsableCpuFeatures().amx; };
  set.needs = "AVX-512 VNNI and BF16, AMX tiles and the system's permission to use them";
  set.matmul = amx::MatMul;
  return set;
}();

constexpr TiledAttention kAmxAttention = {
    .least_tokens = kLeastTiledTokens,
    .scratch_bytes = amx::AttentionScratchBytes,
    .attend = amx::Attend,
};

constexpr KernelSet kAmx = [] {
  KernelSet set = WithAttention(kAmxBatchInvariant, kAmxAttention);
  set.activation_format = amx::FormatOfActivations;
  set.convert_activations = amx::ConvertActivations;
  return set;
}();

#elif defined(__aarch64__)
constexpr KernelSet kNeon = {
    .name = "neon",
    .usable = [] { return true; },
    .needs = "nothing",
    MOXIE_KERNELS_OF(neon),
    .quantize = Quantize,  // Its lanes are a register's.
};

constexpr KernelSet kNeonDot = [] {
  KernelSet set = kNeon;
  set.name = "neon_dot";
  set.usable = [] { return UsableCpuFeatures().neon_dot; };
  set.needs = "the int8 dot product of Armv8.2";
  set.matmul = neon_dot::MatMul;
  return set;
}();

constexpr KernelSet kNeonI8mm = [] {
  KernelSet set = kNeonDot;
  set.name = "neon_i8mm";
  set.usable = [] { return UsableCpuFeatures().neon_i8mm; };
  set.needs = "the int8 dot product of Armv8.2 and the int8 matrix product of Armv8.6";
  set.matmul = neon_i8mm::MatMul;
  return set;
}();
#endif

}  // namespace

std::span<const KernelSet* const> AllKernelSets() {
  static const std::array kSets = {
    &ScalarKernels(),
#if defined(__x86_64__)
    &kAvx2,
    &kAvx512,
    &kAvx512Bf16,
    &kAmx,
#elif defined(__aarch64__)
    &kNeon,
    &kNeonDot,
    &kNeonI8mm,
#endif
  };
  return kSets;
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
