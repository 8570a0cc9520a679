#pragma once

#include "kernels/lanes/chunk_of_rows.h"
#include "kernels/lanes/unpack.h"
#include "kernels/x86/eight_lanes.h"

// The formats (lanes/unpack.h) in this folder's vectors, and those of their names that it knows.

namespace moxie::x86 {
namespace {

using lanes::Bytes;
using lanes::ChunkOfRows;
using lanes::kAheadBytes;
using lanes::kChunkElements;

using UnpackQ2_K = lanes::UnpackQ2_K<EightLanes>;
using UnpackQ3_K = lanes::UnpackQ3_K<EightLanes>;
using UnpackQ4_K = lanes::UnpackQ4_K<EightLanes>;
using UnpackQ5_K = lanes::UnpackQ5_K<EightLanes>;
using UnpackQ6_K = lanes::UnpackQ6_K<EightLanes>;
using UnpackIQ4_XS = lanes::UnpackIQ4_XS<EightLanes>;
using UnpackMXFP4 = lanes::UnpackMXFP4<EightLanes>;

/// Codes of up to 8 bits, under `mask`, at position `shift` of each byte.
template <class L = EightLanes>
MOXIE_INLINE typename L::Ints CodesAt(typename L::Ints bytes, int shift, int mask) {
  return lanes::CodesAt<L>(bytes, shift, mask);
}

template <class Use>
MOXIE_INLINE auto ForFormat(DType type, Use use) {
  return lanes::ForFormat<EightLanes>(type, use);
}

// What a format may say of where its codes lie.

template <class Format>
concept HasNibbles = requires(const uint8_t* p) {
  Format::Nibbles(p, 0);
};
template <class Format>
concept HasNibblePairs = requires(const uint8_t* p) {
  Format::NibblePairs(p, 0);
};
template <class Format>
concept HasWholeCodes = requires(const uint8_t* p) {
  Format::WholeCodes(p, 0);
};
template <class Format>
concept HasValues = requires {
  Format::kValues;
};
/// Codes are looked up one by one, in a codebook.
template <class Format>
concept IsLookedUp = Format::kIsLookedUp;
template <class Format>
concept HasFifthBits = requires(const uint8_t* p) {
  Format::FifthBits(p, 0);
};

}  // namespace
}  // namespace moxie::x86
