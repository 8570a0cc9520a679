#pragma once

#include "kernels/declare_kernels.h"

/// The AVX-512 set: F, BW, DQ, VL and VNNI. Quantised weights are unpacked to tiles of unsigned
/// bytes, 16 rows side by side, and multiplied with activations of bytes and some high bytes
/// (lanes/activation_chunk.h) by vpdpbusd; sums within a scale group are exact integers, the rest
/// is float32 in one fixed order, so one token and many give bit-equal results. Float weights meet
/// float32 activations.
///
/// The functions are KernelSet's; kernel_set.cc puts them into its table. Nothing in this folder
/// may be called unless UsableCpuFeatures().avx512.
namespace moxie::avx512 {

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

}  // namespace moxie::avx512
