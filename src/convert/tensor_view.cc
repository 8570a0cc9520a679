#include "convert/tensor_view.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "model/repack.h"
#include "quant/dequantize.h"

namespace moxie {
namespace {

constexpr size_t kMaxBlockElements = 256;
constexpr int64_t kElementsTogether = 8192;
constexpr int64_t kMxfp4Elements = 32;
constexpr int64_t kMxfp4Bytes = 16;  ///< of a block without its scale

int64_t CountOf(std::span<const Axis> axes) {
  int64_t count = 1;
  for (const Axis& axis : axes) count *= axis.count;
  return count;
}

/// Where the `index`-th step over all axes lands.
int64_t OffsetOf(std::span<const Axis> axes, int64_t index) {
  int64_t offset = 0;
  for (size_t i = axes.size(); i-- > 0;) {
    offset += index % axes[i].count * axes[i].stride;
    index /= axes[i].count;
  }
  return offset;
}

int64_t RowBytes(DType type, int64_t columns) { return BytesOf(type, columns).value(); }

bool HasContiguousColumns(const TensorView& view) {
  if (view.transposed || view.columns.size() != 1) return false;
  const DTypeTraits& traits = TraitsOf(view.type);
  return traits.block_elements > 1 || view.columns[0].stride == traits.block_bytes ||
         view.columns[0].count == 1;
}

/// Collects scattered elements. One side is always strided: rows inside, since those of a
/// transposed matrix are neighbours.
void GatherRows(const TensorView& view, int64_t first, int64_t count, std::byte* out) {
  const auto width = static_cast<size_t>(TraitsOf(view.type).block_bytes);
  const int64_t columns = view.column_count();
  std::vector<int64_t> starts(static_cast<size_t>(count));
  for (int64_t r = 0; r < count; ++r)
    starts[static_cast<size_t>(r)] = OffsetOf(view.rows, first + r);
  for (int64_t c = 0; c < columns; ++c) {
    const std::byte* from = view.data + OffsetOf(view.columns, c);
    std::byte* to = out + c * static_cast<int64_t>(width);
    for (const int64_t start : starts) {
      std::memcpy(to, from + start, width);
      to += columns * static_cast<int64_t>(width);
    }
  }
}

/// The same of a transposed block type, as floats: each column decodes the blocks that the rows lie
/// in. `block` has room for one.
void DecodeColumns(const TensorView& view, int64_t first, int64_t count, float* block, float* out) {
  const DTypeTraits& traits = TraitsOf(view.type);
  const int64_t columns = view.column_count();
  const int64_t length = view.rows.back().count;
  for (int64_t r = 0; r < count;) {
    // Rows up to the end of a block, and of a stored row: those of a block are neighbours.
    const int64_t element = (first + r) % length;
    const int64_t within = element % traits.block_elements;
    const int64_t run = std::min({count - r, length - element, traits.block_elements - within});
    const std::byte* const from =
        view.data +
        OffsetOf(std::span(view.rows).first(view.rows.size() - 1), (first + r) / length) +
        BytesOf(view.type, element - within).value();
    for (int64_t c = 0; c < columns; ++c) {
      Dequantize(view.type, from + OffsetOf(view.columns, c), traits.block_elements, block);
      for (int64_t i = 0; i < run; ++i) out[(r + i) * columns + c] = block[within + i];
    }
    r += run;
  }
}

/// Encodes `count` rows of `from`, stored whole one after another, as `type`. `floats` has room for
/// them.
void Recode(DType from_type, const std::byte* from, int64_t count, int64_t columns, DType type,
            const float* importance, const KernelSet& kernels, float* floats, std::byte* out) {
  const int64_t row_bytes = RowBytes(type, columns);
  if (type == from_type) {
    std::memcpy(out, from, static_cast<size_t>(count * row_bytes));
    return;
  }
  // Encoders look at many blocks at once, so a row that is not a multiple of those would leave some
  // idle: rows are taken together, as many as the nearest cache holds.
  const int64_t runs = (count * columns + kElementsTogether - 1) / kElementsTogether;
  const int64_t rows = (count + runs - 1) / std::max<int64_t>(1, runs);
  std::vector<float> repeated;
  if (importance != nullptr && rows > 1) {
    for (int64_t r = 0; r < rows; ++r)
      repeated.insert(repeated.end(), importance, importance + columns);
    importance = repeated.data();
  }
  const int64_t from_bytes = RowBytes(from_type, columns);
  for (int64_t r = 0; r < count; r += rows) {
    const int64_t elements = std::min(rows, count - r) * columns;
    Dequantize(from_type, from + r * from_bytes, elements, floats);
    kernels.quantize(type, floats, elements, importance, out + r * row_bytes);
  }
}

}  // namespace

int64_t TensorView::row_count() const { return CountOf(rows); }

int64_t TensorView::column_count() const { return CountOf(columns); }

bool TensorView::contiguous() const {
  if (scales != nullptr || !HasContiguousColumns(*this)) return false;
  int64_t stride = RowBytes(type, column_count());
  for (size_t i = rows.size(); i-- > 0;) {
    if (rows[i].stride != stride && rows[i].count > 1) return false;
    stride *= rows[i].count;
  }
  return true;
}

TensorView ViewOf(const TensorInfo& tensor, const std::byte* data) {
  TensorView view;
  view.type = tensor.type;
  view.data = data;
  const int64_t columns = tensor.shape.empty() ? 1 : tensor.shape.back();
  view.columns = {{columns, TraitsOf(tensor.type).block_bytes}};
  int64_t stride = RowBytes(tensor.type, columns);
  for (size_t i = tensor.shape.size(); i-- > 1;) {
    view.rows.insert(view.rows.begin(), {tensor.shape[i - 1], stride});
    stride *= tensor.shape[i - 1];
  }
  if (view.rows.empty()) view.rows = {{1, stride}};
  return view;
}

TensorView ElementsOf(const TensorInfo& tensor, const std::byte* data) {
  TensorView view;
  view.type = tensor.type;
  view.data = data;
  const int64_t width = TraitsOf(tensor.type).block_bytes;
  view.rows = {{tensor.elements(), width}};
  view.columns = {{1, width}};
  return view;
}

TensorView Transposed(const TensorView& view) {
  TensorView transposed = view;
  std::swap(transposed.rows.back(), transposed.columns.back());
  transposed.transposed = TraitsOf(view.type).block_elements > 1;
  return transposed;
}

TensorView Entry(const TensorView& view, int64_t index) {
  TensorView entry = view;
  const int64_t offset = index * view.rows.front().stride;
  entry.data += offset;
  if (entry.scales != nullptr) entry.scales += offset / kMxfp4Bytes;
  entry.rows.erase(entry.rows.begin());
  if (entry.rows.empty()) entry.rows = {{1, 0}};
  return entry;
}

int64_t ScratchBytes(const TensorView& view) {
  // Elements brought together, at most eight bytes each, and the same as floats.
  return view.column_count() * static_cast<int64_t>(sizeof(double) + sizeof(float));
}

void ReadRows(const TensorView& view, int64_t first, int64_t count, DType type,
              const float* importance, const KernelSet& kernels, std::byte* scratch,
              std::byte* out) {
  const int64_t columns = view.column_count();
  auto* const floats = reinterpret_cast<float*>(scratch);
  std::byte* const gathered = scratch + count * columns * static_cast<int64_t>(sizeof(float));
  if (view.transposed) {
    auto* const values = reinterpret_cast<float*>(gathered);
    std::array<float, kMaxBlockElements> block;
    DecodeColumns(view, first, count, block.data(), values);
    Recode(DType::kF32, gathered, count, columns, type, importance, kernels, floats, out);
  } else if (view.scales != nullptr) {
    const int64_t row_bytes = RowBytes(DType::kMXFP4, columns);
    for (int64_t r = 0; r < count; ++r) {
      const int64_t offset = OffsetOf(view.rows, first + r);
      PackMxfp4Row(view.data + offset, view.scales + offset / kMxfp4Bytes, columns / kMxfp4Elements,
                   gathered + r * row_bytes);
    }
    Recode(DType::kMXFP4, gathered, count, columns, type, importance, kernels, floats, out);
  } else if (!HasContiguousColumns(view)) {
    GatherRows(view, first, count, gathered);
    Recode(view.type, gathered, count, columns, type, importance, kernels, floats, out);
  } else if (view.rows.size() == 1 && view.rows[0].stride == RowBytes(view.type, columns)) {
    Recode(view.type, view.data + first * view.rows[0].stride, count, columns, type, importance,
           kernels, floats, out);
  } else {
    for (int64_t r = 0; r < count; ++r) {
      Recode(view.type, view.data + OffsetOf(view.rows, first + r), 1, columns, type, importance,
             kernels, floats, out + r * RowBytes(type, columns));
    }
  }
}

}  // namespace moxie
