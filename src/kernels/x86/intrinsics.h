#pragma once

// The vector intrinsics.

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
