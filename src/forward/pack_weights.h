#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/page_buffer.h"
#include "core/thread_pool.h"
#include "kernels/kernel_set.h"
#include "memory/resident_weights.h"
#include "model/weights.h"

namespace moxie {

/// How many of the matrix's rows `kernels` want packed together; 0 where they do not, or where its
/// rows have gaps or do not come out even.
int32_t PackedRowsFor(const KernelSet& kernels, const WeightMatrix& matrix);

/// Packs groups of rows where they lie, with all threads.
class RowPacker {
 public:
  RowPacker(const KernelSet& kernels, ThreadPool& threads)
      : kernels_(kernels), threads_(threads), copies_(static_cast<size_t>(threads.threads())) {}

  /// `groups` of as many rows of the matrix, which lie from `begin` on.
  void Pack(const WeightMatrix& matrix, int32_t rows, std::byte* begin, int64_t groups);

 private:
  const KernelSet& kernels_;
  ThreadPool& threads_;
  std::vector<std::vector<std::byte>> copies_;  ///< [threads]
};

/// Lays out in place, as `kernels` multiply them fastest (KernelSet::pack), those of the weights
/// that lie in `memory` and are multiplied. The others, among them an embedding that is not the
/// output matrix, too, stay as they are. No result changes by a bit. All it refers to must outlive
/// it.
class WeightPacker {
 public:
  /// `weights` must point into `memory` already; nothing of it need be there yet.
  WeightPacker(ModelWeights& weights, ResidentPart part, const PageBuffer& memory,
               const KernelSet& kernels, ThreadPool& threads);

  /// Packs what lies whole within the first `bytes` of the memory and is not packed yet, best while
  /// it is in the cache. Once they are all there, all is packed.
  void Pack(int64_t bytes);

 private:
  ModelWeights& weights_;
  const PageBuffer& memory_;
  const KernelSet& kernels_;
  RowPacker packer_;
  std::vector<WeightMatrix*> matrices_;  ///< to be packed, as they lie
  size_t matrix_ = 0;                    ///< the first that is not all packed,
  int64_t group_ = 0;                    ///< and of its groups of rows
};

}  // namespace moxie
