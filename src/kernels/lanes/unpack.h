#pragma once

#include "core/dtype.h"
#include "kernels/lanes/unpack_blocks.h"
#include "kernels/lanes/unpack_lattice.h"

// What a format contributes to the integer products: how to read 256 consecutive weights
// ("a chunk") as small integer codes with scales: weight = scale * (code - kOffset) + min. Formats
// are written over L, a set's vectors of eight 32-bit lanes (x86/eight_lanes.h,
// neon/eight_lanes.h).
//
//   Block      the stored block (quant/blocks.h)
//   kGroup     16 or 32 elements share a scale
//   kBits      4 to 7: codes are 0 .. 2^kBits - 1; 8: codes are -128 .. 127
//   kOffset    what zero is stored as; 0 where kHasMin or kBits is 8
//   kHasMin    whether min can differ from 0
//   Scales     scale and min of groups 8 * half .. 8 * half + 7 of a chunk
//   Codes      the codes of elements 32 * i .. 32 * i + 31, a byte each
//   CodesFrom  Codes, of bytes that source.Load(their offset in the chunk) gives: any 32-bit word
//              of the result comes from the same word of what is loaded (optional)
//   LowNibbles, FifthBits  where codes of five bits lie, if as nibbles and 32 bits (optional)
//   WholeCodes where they lie, if as 32 bytes (optional)
//   Nibbles    where they lie, if in 16 bytes: the first half in the low nibbles, the other in the
//              high ones (optional); the codes are those themselves, or kOffset + kValues[those]
//   NibblePairs  where those of elements 64 * i .. 64 * i + 63 lie, if in 32 bytes: the first half
//              in the low nibbles (optional)
//   kIsLookedUp  where Codes looks them up one by one, in a codebook
//   kSixBitScales  where scales and mins are packed as in Q4_K (optional)
//   kBeginsWithHalves  where a block is 32 elements and begins with a binary16 scale and, with
//              kHasMin, a binary16 min
//
// A chunk is whole in memory: the loops copy a row's last, shorter one.

namespace moxie::lanes {
namespace {  // Internal linkage for the formats and all that is instantiated with them.

/// use(the format of `type`); a value-initialised result for a type without one. The result's type
/// must not depend on the format.
template <class L, class Use>
MOXIE_INLINE auto ForFormat(DType type, Use use) {
  switch (type) {
    case DType::kQ4_0:
      return use(UnpackQ4_0<L>{});
    case DType::kQ4_1:
      return use(UnpackQ4_1<L>{});
    case DType::kQ5_0:
      return use(UnpackQ5_0<L>{});
    case DType::kQ5_1:
      return use(UnpackQ5_1<L>{});
    case DType::kQ8_0:
      return use(UnpackQ8_0<L>{});
    case DType::kQ2_K:
      return use(UnpackQ2_K<L>{});
    case DType::kQ3_K:
      return use(UnpackQ3_K<L>{});
    case DType::kQ4_K:
      return use(UnpackQ4_K<L>{});
    case DType::kQ5_K:
      return use(UnpackQ5_K<L>{});
    case DType::kQ6_K:
      return use(UnpackQ6_K<L>{});
    case DType::kIQ1_S:
      return use(UnpackIQ1_S<L>{});
    case DType::kIQ1_M:
      return use(UnpackIQ1_M<L>{});
    case DType::kIQ2_XXS:
      return use(UnpackIQ2_XXS<L>{});
    case DType::kIQ2_XS:
      return use(UnpackIQ2_XS<L>{});
    case DType::kIQ2_S:
      return use(UnpackIQ2_S<L>{});
    case DType::kIQ3_XXS:
      return use(UnpackIQ3_XXS<L>{});
    case DType::kIQ3_S:
      return use(UnpackIQ3_S<L>{});
    case DType::kIQ4_NL:
      return use(UnpackIQ4_NL<L>{});
    case DType::kIQ4_XS:
      return use(UnpackIQ4_XS<L>{});
    case DType::kMXFP4:
      return use(UnpackMXFP4<L>{});
    case DType::kTQ1_0:
      return use(UnpackTQ1_0<L>{});
    case DType::kTQ2_0:
      return use(UnpackTQ2_0<L>{});
    default:
      return decltype(use(UnpackQ4_0<L>{})){};
  }
}

}  // namespace
}  // namespace moxie::lanes
