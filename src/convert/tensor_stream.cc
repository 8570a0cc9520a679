#include "convert/tensor_stream.h"

#include <algorithm>
#include <span>
#include <string>
#include <utility>

#include "model/names.h"
#include "model/repack.h"

namespace moxie {
namespace {

constexpr int64_t kTileBytes = int64_t{1} << 18;  // of one thread's scratch: its cache
constexpr int64_t kMaxTileRows = 64;
constexpr int64_t kBlockBytes = int64_t{2} << 20;   // written while the next is encoded
constexpr int64_t kPieceBytes = int64_t{16} << 20;  // between two looks at the pages

using Form = PlannedTensor::Form;

int64_t OutputRowBytes(const PlannedTensor& tensor) {
  const int64_t columns = tensor.columns();
  switch (tensor.form) {
    case Form::kMxfp4Blocks:
      return columns / 2;
    case Form::kMxfp4Scales:
      return columns / 32;
    case Form::kRows:
      break;
  }
  return BytesOf(tensor.spec.type, columns).value();
}

/// Bytes of a row of a part that is contiguous.
int64_t StoredRowBytes(const TensorView& part) {
  return BytesOf(part.type, part.column_count()).value();
}

int64_t ScratchRowBytes(const PlannedTensor& tensor, const TensorView& part) {
  const bool apart = tensor.form != Form::kRows;
  return ScratchBytes(part) + (apart ? BytesOf(DType::kMXFP4, tensor.columns()).value() : 0) +
         (part.contiguous() ? StoredRowBytes(part) : 0);
}

/// Rows of a part of a tensor as `view` has them, whose first is the part's row `origin`.
struct Source {
  const PlannedTensor& tensor;
  const TensorView& part;
  const TensorView& view;
  int64_t origin;
};

/// Each expert's rows with its own importance.
void ReadWeighted(const Source& from, int64_t first, int64_t count, const KernelSet& kernels,
                  std::byte* scratch, std::byte* out) {
  const PlannedTensor& tensor = from.tensor;
  const int64_t columns = tensor.columns();
  const int64_t parts = std::ssize(tensor.parts);
  const int64_t matrices = std::ssize(tensor.importance) / columns / parts;  // of this part
  const int64_t all_rows = from.part.row_count();
  const int64_t rows = matrices > 0 ? all_rows / matrices : all_rows;
  const int64_t before = (&from.part - tensor.parts.data()) * matrices;
  for (const int64_t end = first + count; first < end;) {
    const int64_t matrix = first / rows;
    const int64_t run = std::min(end, (matrix + 1) * rows) - first;
    const float* weights =
        matrices > 0 ? tensor.importance.data() + (before + matrix) * columns : nullptr;
    ReadRows(from.view, first - from.origin, run, tensor.spec.type, weights, kernels, scratch, out);
    first += run;
    out += run * OutputRowBytes(tensor);
  }
}

void ReadTile(const Source& from, int64_t first, int64_t count, const KernelSet& kernels,
              std::byte* scratch, std::byte* out) {
  if (from.tensor.form == Form::kRows) {
    ReadWeighted(from, first, count, kernels, scratch, out);
    return;
  }
  const bool scales = from.tensor.form == Form::kMxfp4Scales;
  std::byte* const packed = scratch + count * ScratchBytes(from.part);
  ReadRows(from.view, first - from.origin, count, DType::kMXFP4, nullptr, kernels, scratch, packed);
  const int64_t blocks = count * from.tensor.columns() / 32;
  UnpackMxfp4Row(packed, blocks, scales ? nullptr : out, scales ? out : nullptr);
}

}  // namespace

TensorStream::TensorStream(const ModelFiles& files, int64_t memory_bytes, ThreadPool& threads,
                           const KernelSet& kernels, std::function<bool(int64_t bytes)> progress)
    : files_(files),
      memory_bytes_(memory_bytes),
      threads_(threads),
      kernels_(kernels),
      progress_(std::move(progress)) {}

Result<void> TensorStream::CheckMemory(const PlannedTensor& tensor) const {
  for (const TensorView& part : tensor.parts) {
    const int64_t need = 2 * OutputRowBytes(tensor) + ScratchRowBytes(tensor, part);
    if (need <= memory_bytes_) continue;
    return Error{ErrorCode::kOverBudget, "tensor " + tensor.spec.name + ": one row needs " +
                                             std::to_string(need) + " bytes, but --memory is " +
                                             std::to_string(memory_bytes_)};
  }
  return {};
}

Result<void> TensorStream::Write(std::span<const PlannedTensor> tensors, TensorWriter& writer) {
  for (const PlannedTensor& tensor : tensors) MOXIE_TRY(WriteTensor(tensor, writer));
  return WritePending(writer);
}

Result<void> TensorStream::WriteTensor(const PlannedTensor& tensor, TensorWriter& writer) {
  MOXIE_TRY(CheckMemory(tensor));
  if (tensor.parts.empty()) return WriteAsIs(std::as_bytes(std::span(tensor.values)), writer);
  for (const TensorView& part : tensor.parts) {
    const bool as_is =
        tensor.form == Form::kRows && part.type == tensor.spec.type && part.contiguous();
    const auto bytes = static_cast<size_t>(part.row_count() * OutputRowBytes(tensor));
    MOXIE_TRY(as_is ? WriteAsIs({part.data, bytes}, writer) : WritePart(tensor, part, writer));
  }
  return {};
}

Result<void> TensorStream::Written(size_t bytes) {
  bytes_written_ += static_cast<int64_t>(bytes);
  if (bytes_written_ - bytes_released_ >= kPieceBytes) {
    files_.tensors.ReleasePages();
    bytes_released_ = bytes_written_;
  }
  if (bytes > 0 && progress_ && !progress_(bytes_written_))
    return Error{ErrorCode::kCancelled, DisplayName(files_) + ": was not converted to the end"};
  return {};
}

Result<void> TensorStream::WritePending(TensorWriter& writer) {
  const auto bytes = std::exchange(pending_, {});
  MOXIE_TRY(writer.Write(bytes));
  return Written(bytes.size());
}

Result<void> TensorStream::WriteAsIs(std::span<const std::byte> bytes, TensorWriter& writer) {
  MOXIE_TRY(WritePending(writer));
  while (!bytes.empty()) {
    pending_ = bytes.first(std::min(bytes.size(), static_cast<size_t>(kPieceBytes)));
    bytes = bytes.subspan(pending_.size());
    MOXIE_TRY(WritePending(writer));
  }
  return {};
}

Result<void> TensorStream::WritePart(const PlannedTensor& tensor, const TensorView& part,
                                     TensorWriter& writer) {
  const int64_t rows = part.row_count();
  const int64_t row_bytes = OutputRowBytes(tensor);
  const int64_t scratch_row = ScratchRowBytes(tensor, part);
  // Rows that a thread takes at a time, and whether all threads' share fits half of the memory.
  int64_t tile = std::clamp<int64_t>(kTileBytes / scratch_row, 1, kMaxTileRows);
  const int64_t half = memory_bytes_ / 2;
  const bool parallel = threads_.threads() * scratch_row <= half;
  const int64_t workers = parallel ? threads_.threads() : 1;
  tile = std::max<int64_t>(1, std::min(tile, half / (workers * scratch_row)));
  const int64_t scratch_bytes = (tile * scratch_row + 63) / 64 * 64;
  const int64_t block_bytes =
      std::min(kBlockBytes, (memory_bytes_ - workers * tile * scratch_row) / 2);
  const int64_t block_rows = std::clamp<int64_t>(block_bytes / row_bytes, 1, rows);
  scratch_.resize(static_cast<size_t>(workers * scratch_bytes));
  const TensorFiles::Place place =
      part.contiguous() ? files_.tensors.Locate(part.data) : TensorFiles::Place{};
  for (int64_t first = 0; first < rows; first += block_rows) {
    const int64_t count = std::min(block_rows, rows - first);
    std::vector<std::byte>& block = blocks_[turn_];
    block.resize(static_cast<size_t>(count * row_bytes));
    Result<void> written;
    std::vector<Result<void>> read(static_cast<size_t>(workers));
    const auto step = [&](int64_t index, int worker) {
      if (index == 0) {
        written = writer.Write(pending_);
        return;
      }
      const int64_t at = (index - 1) * tile;
      const int64_t taken = std::min(tile, count - at);
      std::byte* const scratch = scratch_.data() + worker * scratch_bytes;
      std::byte* const out = block.data() + at * row_bytes;
      if (place.file < 0) {
        ReadTile({tensor, part, part, 0}, first + at, taken, kernels_, scratch, out);
        return;
      }
      // Copying a tile into memory that stays costs less than mapping its pages.
      const int64_t stored = StoredRowBytes(part);
      const std::span copy(scratch + taken * (scratch_row - stored),
                           static_cast<size_t>(taken * stored));
      Result<void> got = files_.tensors.files()[static_cast<size_t>(place.file)].Read(
          place.offset + static_cast<uint64_t>((first + at) * stored), copy);
      if (!got) {
        read[static_cast<size_t>(worker)] = std::move(got);
        return;
      }
      TensorView view = part;
      view.data = copy.data();
      view.rows = {{taken, stored}};
      ReadTile({tensor, part, view, first + at}, first + at, taken, kernels_, scratch, out);
    };
    const int64_t steps = 1 + (count + tile - 1) / tile;
    if (parallel) {
      threads_.ParallelFor(steps, step);
    } else {
      for (int64_t i = 0; i < steps; ++i) step(i, 0);
    }
    for (Result<void>& result : read) MOXIE_TRY(result);
    MOXIE_TRY(written);
    MOXIE_TRY(Written(std::exchange(pending_, block).size()));
    turn_ = 1 - turn_;
  }
  return {};
}

}  // namespace moxie
