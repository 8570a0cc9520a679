#pragma once

#include "core/page_buffer.h"
#include "core/thread_pool.h"
#include "kernels/kernel_set.h"
#include "memory/resident_weights.h"
#include "model/weights.h"

namespace moxie {

/// How many of the matrix's rows `kernels` want packed together; 0 where they do not, or where its
/// rows have gaps or do not come out even.
int32_t PackedRowsFor(const KernelSet& kernels, const WeightMatrix& matrix);

/// Lays out in place, as `kernels` multiply them fastest (KernelSet::pack), those of the loaded
/// weights that lie in `memory` and are only multiplied. The others, among them the embedding, stay
/// as they are. No result changes by a bit.
void PackWeights(ModelWeights& weights, ResidentPart part, const PageBuffer& memory,
                 const KernelSet& kernels, ThreadPool& threads);

}  // namespace moxie
