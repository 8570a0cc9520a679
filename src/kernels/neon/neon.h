#pragma once

#include "kernels/declare_kernels.h"

/// The NEON set: what every aarch64 processor has. Weights are decoded to float32 and meet float32
/// activations, 4 lanes at a time; quantised ones have no integer product yet. Sums are float32 in
/// one fixed order, so one token and many give bit-equal results.
///
/// The functions are KernelSet's; kernel_set.cc puts them into its table.
namespace moxie::neon {

MOXIE_DECLARE_KERNELS

}  // namespace moxie::neon
