#pragma once

#include <cstddef>
#include <cstdint>

#include "core/dtype.h"

namespace moxie {

/// A weight matrix as stored: `rows` rows of `cols` elements, each row whole blocks of `type`.
/// y = W x maps `cols` inputs to `rows` outputs, so a row is one output's weights.
///
/// Does not own its bytes. Rows start at data + r * row_stride (bytes); row_stride may exceed
/// the row's own bytes (interleaved gate and up rows). Rows have no alignment guarantee beyond
/// that of the type's block in a mapped file: load with unaligned loads or memcpy.
///
/// Where packed_rows is not 0, each so many rows (row_stride apart, no gaps, `rows` a multiple) are
/// laid out together by KernelSet::pack, and only that set's matmul and unpack_row can read them.
struct WeightMatrix {
  DType type = DType::kF32;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t row_stride = 0;
  const std::byte* data = nullptr;
  int32_t packed_rows = 0;

  bool empty() const { return data == nullptr; }
  /// From the first row to the end of the last one's stride.
  int64_t bytes() const { return rows * row_stride; }
  const std::byte* row(int64_t r) const { return data + r * row_stride; }
};

}  // namespace moxie
