#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "convert/tensor_plan.h"
#include "core/thread_pool.h"
#include "formats/model_files.h"
#include "formats/tensor_writer.h"
#include "kernels/kernel_set.h"
#include "moxie/result.h"

namespace moxie {

/// Writes planned tensors, block of rows after block of rows: rows are read where the source's
/// files are mapped, encoded on all threads, written, and their pages let go. What it holds at a
/// time stays below `memory_bytes`, however large the tensors are. Not thread-safe.
class TensorStream {
 public:
  /// `files` and `threads` must outlive the stream. `progress` is told the bytes written, now and
  /// then, and says whether to go on; it may be empty.
  TensorStream(const ModelFiles& files, int64_t memory_bytes, ThreadPool& threads,
               const KernelSet& kernels, std::function<bool(int64_t bytes)> progress);

  /// Whether a row of the tensor can be converted within the memory.
  ///
  /// Errors: kOverBudget, naming the tensor, where it cannot.
  Result<void> CheckMemory(const PlannedTensor& tensor) const;

  /// Writes all of the tensor, which must be the writer's next.
  ///
  /// Errors: kCancelled where `progress` said so; kOverBudget; those of the writer.
  Result<void> Write(const PlannedTensor& tensor, TensorWriter& writer);

 private:
  Result<void> WritePart(const PlannedTensor& tensor, const TensorView& part, TensorWriter& writer);
  Result<void> WriteBytes(std::span<const std::byte> bytes, TensorWriter& writer);

  const ModelFiles& files_;
  const int64_t memory_bytes_;
  ThreadPool& threads_;
  const KernelSet& kernels_;
  std::function<bool(int64_t)> progress_;
  int64_t bytes_written_ = 0;
  std::vector<std::byte> block_;
  std::vector<std::byte> scratch_;
};

}  // namespace moxie
