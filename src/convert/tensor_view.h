#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/dtype.h"
#include "formats/tensor_files.h"
#include "kernels/kernel_set.h"

namespace moxie {

/// One dimension of a view: so many steps of so many bytes.
struct Axis {
  int64_t count = 1;
  int64_t stride = 0;
};

/// Rows and columns laid over stored elements with strides, so that permuted, transposed, split and
/// interleaved tensors are read where they lie. Does not own its bytes.
struct TensorView {
  DType type = DType::kF32;
  const std::byte* data = nullptr;
  std::vector<Axis> rows;     ///< outermost first
  std::vector<Axis> columns;  ///< outermost first; of a block type one that is contiguous
  /// Of a block type: the last axis of rows runs over the elements of a stored row, one by one, and
  /// columns over stored rows.
  bool transposed = false;
  /// Not null: MXFP4 as gpt-oss's folders hold it, `data` being the blocks of 16 bytes, and here
  /// the scale of each, so that strides here are a sixteenth of those of the blocks.
  const std::byte* scales = nullptr;

  int64_t row_count() const;
  int64_t column_count() const;
  /// Whether the rows are stored one after another, whole.
  bool contiguous() const;
};

/// A tensor as it lies: rows of its last dimension.
TensorView ViewOf(const TensorInfo& tensor, const std::byte* data);

/// A vector, or each row of a matrix, as rows of one element.
TensorView ElementsOf(const TensorInfo& tensor, const std::byte* data);

/// The same matrices with rows and columns changed places; both have one axis, or rows more of them
/// before it.
TensorView Transposed(const TensorView& view);

/// The `index`-th entry of the outermost axis of rows.
TensorView Entry(const TensorView& view, int64_t index);

/// Bytes of scratch that ReadRows needs for each row.
int64_t ScratchBytes(const TensorView& view);

/// Copies rows [first, first + count) to `out` as `type`, row after row; elements keep their bits
/// where the type stays, else they pass through float32. Thread-safe.
///
///   importance  [columns]: how much each element's squared error counts (Quantize), or null
///   scratch  ScratchBytes(view) * count bytes, aligned as for float
void ReadRows(const TensorView& view, int64_t first, int64_t count, DType type,
              const float* importance, const KernelSet& kernels, std::byte* scratch,
              std::byte* out);

}  // namespace moxie
