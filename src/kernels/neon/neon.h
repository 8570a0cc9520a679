#pragma once

#include "kernels/declare_kernels.h"

/// The NEON set: what every aarch64 processor has. Quantised weights are unpacked to signed bytes
/// and multiplied with activations of bytes and some high bytes (lanes/activation_chunk.h); sums
/// within a scale group are exact integers, the rest is float32 in one fixed order, so one token
/// and many give bit-equal results. Float weights meet float32 activations.
///
/// The functions are KernelSet's; kernel_set.cc puts them into its table.
namespace moxie::neon {

MOXIE_DECLARE_KERNELS

}  // namespace moxie::neon
