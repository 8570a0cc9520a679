#pragma once

#include "kernels/declare_kernels.h"

/// The AVX2 + FMA + F16C set. Quantised weights are unpacked to small integers and multiplied with
/// activations of 16 bits (activation_groups.h); sums within a scale group are exact integers, the
/// rest is float32 in one fixed order, so one token and many give bit-equal results. Float weights
/// meet float32 activations.
///
/// The functions are KernelSet's; kernel_set.cc puts them into its table. Nothing in this folder
/// may be called unless UsableCpuFeatures().avx2.
namespace moxie::avx2 {

MOXIE_DECLARE_KERNELS

void Quantize(DType type, const float* x, int64_t elements, const float* importance,
              std::byte* out);

/// TiledAttention's functions.
int64_t AttentionScratchBytes(int64_t key_dim, int64_t value_dim);
void Attend(const AttentionTile& tile, std::byte* scratch, float* maxima, double* totals,
            float* sums);

int64_t PackedRowsOf(DType type);
void Pack(DType type, int64_t row_bytes, const std::byte* rows, std::byte* out);
void UnpackRow(DType type, int64_t row_bytes, const std::byte* rows, int64_t row, std::byte* out);

}  // namespace moxie::avx2
