#pragma once

#include <cstdint>
#include <span>

#include "forward/input_observer.h"
#include "memory/kv_cache.h"
#include "moxie/profile.h"

namespace moxie {

/// Where a token of the batch stands.
struct TokenPlace {
  SequenceId sequence = 0;
  int64_t position = 0;
};

/// Consecutive tokens of one sequence, consecutive in the batch too.
struct BatchChunk {
  SequenceId sequence = 0;
  int64_t first_token = 0;  ///< in the batch
  int64_t tokens = 0;
  int64_t first_position = 0;  ///< in the sequence
};

/// The tokens of one forward pass: a ragged batch of chunks, one a sequence.
struct Batch {
  std::span<const BatchChunk> chunks;
  std::span<const TokenPlace> places;  ///< [tokens]
  Profile* profile = nullptr;          ///< or null: nothing is recorded
  InputObserver* inputs = nullptr;     ///< or null

  int64_t tokens() const { return std::ssize(places); }
};

}  // namespace moxie
