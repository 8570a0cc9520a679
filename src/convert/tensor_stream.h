#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "convert/tensor_plan.h"
#include "core/thread_pool.h"
#include "formats/model_files.h"
#include "formats/tensor_writer.h"
#include "kernels/kernel_set.h"
#include "moxie/result.h"

namespace moxie {

/// Writes planned tensors, block of rows after block of rows: rows are read from the source's files
/// (where they are mapped, if they lie scattered there; those pages are let go) and encoded on all
/// threads, one of which writes the block before meanwhile. What it holds at a time stays below
/// `memory_bytes`, however large the tensors are. Not thread-safe.
class TensorStream {
 public:
  /// `files` and `threads` must outlive the stream. `progress` is told the bytes written, now and
  /// then, and says whether to go on; it may be empty.
  TensorStream(const ModelFiles& files, int64_t memory_bytes, ThreadPool& threads,
               const KernelSet& kernels, std::function<bool(int64_t bytes)> progress);

  /// Whether the tensor's rows can be converted within the memory.
  ///
  /// Errors: kOverBudget, naming the tensor, where it cannot.
  Result<void> CheckMemory(const PlannedTensor& tensor) const;

  /// Writes all of the tensors, which must be the writer's next.
  ///
  /// Errors: kCancelled where `progress` said so; kOverBudget; kIo where a source cannot be read;
  /// those of the writer.
  Result<void> Write(std::span<const PlannedTensor> tensors, TensorWriter& writer);

 private:
  Result<void> WriteTensor(const PlannedTensor& tensor, TensorWriter& writer);
  Result<void> WritePart(const PlannedTensor& tensor, const TensorView& part, TensorWriter& writer);
  Result<void> WriteAsIs(std::span<const std::byte> bytes, TensorWriter& writer);
  Result<void> WritePending(TensorWriter& writer);
  Result<void> Written(size_t bytes);

  const ModelFiles& files_;
  const int64_t memory_bytes_;
  ThreadPool& threads_;
  const KernelSet& kernels_;
  std::function<bool(int64_t)> progress_;
  int64_t bytes_written_ = 0;
  int64_t bytes_released_ = 0;  ///< of those written, when pages were last let go
  std::array<std::vector<std::byte>, 2> blocks_;
  size_t turn_ = 0;                     ///< the block that is encoded next
  std::span<const std::byte> pending_;  ///< the one that was encoded and is to be written
  std::vector<std::byte> scratch_;
};

}  // namespace moxie
