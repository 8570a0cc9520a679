#pragma once

// The vector intrinsics, and what else needs real registers. Tests put an emulation in this file's
// place (tests/emulated/).

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
// False alarms on what the intrinsics leave undefined on purpose (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#include <immintrin.h>

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

namespace moxie::x86 {

/// Keeps a vector in a register: the compiler neither adds up in another order, which needs more of
/// them, nor loads what several instructions take from memory once for each.
template <class Vector>
static inline __attribute__((always_inline, unused)) Vector InRegister(Vector v) {
  asm("" : "+v"(v));
  return v;
}

}  // namespace moxie::x86
