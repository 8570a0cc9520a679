#pragma once

// In the place of src/kernels/lanes/inlining.h: emulated, unrolled and inlined code takes the
// compiler minutes.

#define MOXIE_UNROLL
#define MOXIE_INLINE static inline __attribute__((unused))
#define MOXIE_MEMBER inline
