#pragma once

#include "kernels/x86/vectors.h"

namespace moxie::avx2 {
using namespace x86;
}  // namespace moxie::avx2
