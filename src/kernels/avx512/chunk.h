#pragma once

#include "kernels/lanes/activation_chunk.h"
#include "kernels/x86/unpack.h"

namespace moxie::avx512 {
using lanes::ActivationChunk;
using lanes::kLeastSpared;
}  // namespace moxie::avx512
