#include "model/repack.h"

#include <cstring>
#include <new>
#include <string>

#include "quant/blocks.h"

namespace moxie {

Result<std::unique_ptr<std::byte[]>> AllocateBytes(int64_t bytes) {
  std::unique_ptr<std::byte[]> buffer(new (std::nothrow) std::byte[static_cast<size_t>(bytes)]);
  if (buffer == nullptr) {
    return Error{ErrorCode::kOverBudget, "weights: " + std::to_string(bytes) +
                                             " bytes are needed to rearrange them, but the system "
                                             "has not that much memory"};
  }
  return buffer;
}

void CopyTransposed(const std::byte* in, int64_t in_cols, int64_t first_col, int64_t col_step,
                    int64_t element_bytes, int64_t rows, int64_t cols, std::byte* out) {
  const auto width = static_cast<size_t>(element_bytes);
  // Tiles keep the lines of both sides in the cache: one side is always strided.
  constexpr int64_t kTile = 64;
  for (int64_t r0 = 0; r0 < rows; r0 += kTile) {
    const int64_t r1 = r0 + kTile < rows ? r0 + kTile : rows;
    for (int64_t c = 0; c < cols; ++c) {
      const std::byte* from = in + (c * in_cols + first_col) * element_bytes;
      for (int64_t r = r0; r < r1; ++r) {
        std::memcpy(out + (r * cols + c) * element_bytes, from + r * col_step * element_bytes,
                    width);
      }
    }
  }
}

void PackMxfp4Row(const std::byte* blocks, const std::byte* scales, int64_t block_count,
                  std::byte* out) {
  constexpr int kHalf = BlockMXFP4::kElements / 2;
  for (int64_t b = 0; b < block_count; ++b) {
    const std::byte* in = blocks + b * kHalf;
    BlockMXFP4 block;
    block.e = std::to_integer<uint8_t>(scales[b]);
    for (int i = 0; i < kHalf; ++i) {
      const auto nibble = [in](int element) {
        const int byte = std::to_integer<int>(in[element / 2]);
        return element % 2 == 0 ? byte & 0xf : byte >> 4;
      };
      block.q[i] = static_cast<uint8_t>(nibble(i) | nibble(i + kHalf) << 4);
    }
    std::memcpy(out + b * static_cast<int64_t>(sizeof block), &block, sizeof block);
  }
}

void UnpackMxfp4Row(const std::byte* in, int64_t block_count, std::byte* blocks,
                    std::byte* scales) {
  constexpr int kHalf = BlockMXFP4::kElements / 2;
  for (int64_t b = 0; b < block_count; ++b) {
    BlockMXFP4 block;
    std::memcpy(&block, in + b * static_cast<int64_t>(sizeof block), sizeof block);
    if (scales != nullptr) scales[b] = std::byte{block.e};
    if (blocks == nullptr) continue;
    const auto code = [&block](int element) {
      return element < kHalf ? block.q[element] & 0xf : block.q[element - kHalf] >> 4;
    };
    for (int i = 0; i < kHalf; ++i)
      blocks[b * kHalf + i] = static_cast<std::byte>(code(2 * i) | code(2 * i + 1) << 4);
  }
}

}  // namespace moxie
