#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/dtype.h"
#include "model/config.h"
#include "moxie/result.h"

namespace moxie {

using SequenceId = int32_t;

/// Keys and values of many sequences in pages of `page_tokens` positions. Layers that see the
/// same window form a group with page tables of its own, so that a sliding-window layer keeps
/// only the pages its window reaches (Mistral's rolling buffer, in pages) while full layers keep
/// all. Pages are reference-counted: sequences that begin alike share them until one writes.
///
/// All memory is taken at creation; nothing grows later. Not thread-safe.
class KvCache {
 public:
  struct Options {
    DType type = DType::kF16;        ///< kF32, kF16 or kQ8_0
    int64_t capacity_tokens = 4096;  ///< positions that full layers can hold, over all sequences
    int64_t page_tokens = 32;
    int64_t max_chunk_tokens = 512;  ///< new tokens of one sequence in one forward pass, at most
    int32_t max_sequences = 1;
  };

  /// Errors: kOverBudget where the memory cannot be had, kInvalidInput for impossible options.
  static Result<std::unique_ptr<KvCache>> Create(const ModelConfig& config, const Options& options);
  virtual ~KvCache() = default;

  /// Bytes that Create will take for these options, to the byte.
  static int64_t BytesFor(const ModelConfig& config, const Options& options);

  virtual Result<SequenceId> CreateSequence() = 0;
  virtual void FreeSequence(SequenceId sequence) = 0;

  /// A new sequence that shares the first `tokens` positions of `sequence`. For windowed groups
  /// that needs the pages still held; kInvalidInput where they have rolled away.
  virtual Result<SequenceId> Fork(SequenceId sequence, int64_t tokens) = 0;

  /// Positions stored so far; the next token's position.
  virtual int64_t Length(SequenceId sequence) const = 0;

  /// Forgets positions from `tokens` on (same limits as Fork).
  virtual Result<void> Truncate(SequenceId sequence, int64_t tokens) = 0;

  /// Tokens for which pages are free in every group, for a sequence that begins a new page.
  virtual int64_t FreeTokens() const = 0;
};

}  // namespace moxie
