#pragma once

#include "kernels/kernel_set.h"

namespace moxie {

/// The reference set, in plain C++: every weight is decoded to float32 as published, activations
/// stay float32, sums are float32 over 256 elements and float64 beyond.
const KernelSet& ScalarKernels();

}  // namespace moxie
