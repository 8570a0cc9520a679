#pragma once

#include <cstdint>
#include <memory>

#include "formats/tensor_files.h"
#include "memory/expert_store.h"
#include "memory/file_reader.h"
#include "model/weights.h"
#include "moxie/result.h"

namespace moxie {

/// The fewest experts that a cache must hold: one to compute with while another is read.
inline constexpr int64_t kLeastExpertSlots = 2;

/// Bytes that any one expert of the model takes in the cache: the whole pages that its matrices lie
/// in. Experts that loading had to rearrange stay in memory and take none; 0 where all do.
int64_t ExpertSlotBytes(const ModelWeights& weights);

/// Experts that are read on demand: what a cache could hold at most.
int64_t StreamedExperts(const ModelWeights& weights);

/// How a reader for a store must be made.
FileReader::Options StreamReaderOptions(const ModelWeights& weights);

/// Bytes of memory that a store with that many slots takes, to the page: the slots and its tables.
int64_t StreamedStoreBytes(const ModelWeights& weights, int64_t slots);

/// A store that keeps `slots` experts in memory and reads the others as they are asked for. Reads
/// of one Begin are queued together, in the order given; an expert is computed with as soon as its
/// gate and up have arrived, while what is behind them is being read. A Begin with more missing
/// experts than slots works through them in turn, so each is read once.
///
/// `weights` and `reader` must outlive it, and the reader is its alone.
///
/// Errors of the store: kOverBudget where the memory cannot be had; of Next and Complete: what the
/// reader reports. Both give it again until the next Begin, which asks for the experts again.
Result<std::unique_ptr<ExpertStore>> MakeStreamedExpertStore(const ModelWeights& weights,
                                                             FileReader& reader, int64_t slots);

}  // namespace moxie
