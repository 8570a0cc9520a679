#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "core/matrix.h"
#include "moxie/result.h"

namespace moxie {

/// A buffer of that size, or kOverBudget where the system has not that much memory.
Result<std::unique_ptr<std::byte[]>> AllocateBytes(int64_t bytes);

/// Copies a transposed matrix of plain elements into rows of `out`:
/// out[r, c] = in[c * in_cols + first_col + r * col_step], each `element_bytes` wide,
/// r in [0, rows), c in [0, cols).
void CopyTransposed(const std::byte* in, int64_t in_cols, int64_t first_col, int64_t col_step,
                    int64_t element_bytes, int64_t rows, int64_t cols, std::byte* out);

/// Joins one row's blocks and scales, as gpt-oss's folders hold them (16 bytes a block with
/// elements 2j and 2j + 1 in byte j, and an E8M0 scale a block, apart), into MXFP4 blocks as GGUF
/// has them (scale first, elements j and j + 16 in byte j).
void PackMxfp4Row(const std::byte* blocks, const std::byte* scales, int64_t block_count,
                  std::byte* out);

/// The reverse, of one row's blocks or several rows'; `blocks` or `scales` may be null.
void UnpackMxfp4Row(const std::byte* in, int64_t block_count, std::byte* blocks, std::byte* scales);

}  // namespace moxie
