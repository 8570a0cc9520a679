#pragma once

// What makes small loops and functions vanish into registers. Tests put an emulation in this file's
// place (tests/emulated/).

#if defined(__clang__)
#define MOXIE_UNROLL _Pragma("clang loop unroll(full)")
#else
#define MOXIE_UNROLL _Pragma("GCC unroll 16")
#endif
#define MOXIE_INLINE static inline __attribute__((always_inline, unused))

/// The same for members of an object.
#define MOXIE_MEMBER inline __attribute__((always_inline))
