#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "core/dtype.h"
#include "core/page_buffer.h"
#include "model/config.h"
#include "moxie/result.h"

namespace moxie {

using SequenceId = int32_t;

/// Keys and values of many sequences in pages of `page_tokens` positions (vLLM,
/// arXiv:2309.06180). Layers that see the same window form a group with page tables of its own, so
/// that a sliding-window layer keeps only the pages its window reaches (Mistral's rolling buffer,
/// in pages) while full layers keep all. Pages are reference-counted: sequences that begin alike
/// share them until one writes.
///
/// Page p of a sequence holds positions [p * page_tokens, (p + 1) * page_tokens), so what a page
/// holds depends on positions alone, never on the chunks they came in.
///
/// Latent attention keeps one row a position, the compressed latent and the shared rotated key,
/// and reads values from the front of the same row (arXiv:2405.04434, section 2.1).
///
/// All memory is taken at creation; nothing grows later. Not thread-safe, but for Store and Rows.
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
  ~KvCache();
  KvCache(const KvCache&) = delete;
  KvCache& operator=(const KvCache&) = delete;

  /// Bytes that Create will take for pages and page tables, to the byte; the greatest int64 where
  /// that overflows or the options are impossible.
  static int64_t BytesFor(const ModelConfig& config, const Options& options);

  // For schedulers.

  /// Errors: kOverBudget where max_sequences exist already.
  Result<SequenceId> CreateSequence();
  void FreeSequence(SequenceId sequence);

  /// A new sequence that shares the first `tokens` positions of `sequence`. For windowed groups
  /// that needs the pages still held; kInvalidInput where they have rolled away.
  Result<SequenceId> Fork(SequenceId sequence, int64_t tokens);

  /// Positions stored so far; the next token's position.
  int64_t Length(SequenceId sequence) const;

  /// Forgets positions from `tokens` on (same limits as Fork).
  Result<void> Truncate(SequenceId sequence, int64_t tokens);

  /// Whole free pages of full layers, in tokens: what a sequence that begins a new page can still
  /// take. Windowed layers set no limit, since every sequence has its window's pages set aside;
  /// the greatest int64 where a model has no full layers.
  int64_t FreeTokens() const;

  /// Free pages of full layers that growing the sequence to `length` positions takes, the copy of a
  /// last page that it shares included; 0 where a model has no full layers.
  int64_t PagesToGrow(SequenceId sequence, int64_t length) const;

  /// The most tokens of one sequence that Reserve grants at once.
  int64_t max_chunk_tokens() const { return options_.max_chunk_tokens; }

  // For the forward pass.

  /// Makes the pages for `tokens` new positions of `sequence` writable: releases pages that no
  /// window reaches any more, copies a shared last page, takes free ones.
  /// Errors: kOverBudget where pages run out, kInvalidInput beyond max_chunk_tokens. The
  /// sequence's length and contents are as before in every case.
  Result<void> Reserve(SequenceId sequence, int64_t tokens);

  /// Counts reserved positions as stored: all their layers have been.
  void Commit(SequenceId sequence, int64_t tokens);

  /// Returns what Reserve took and Commit did not.
  void Rollback(SequenceId sequence);

  /// Encodes one position's rows of one layer into its reserved page.
  ///   keys    [kv_heads, key_dim]
  ///   values  [kv_heads, value_dim]; null with latent attention
  /// Safe to call concurrently for different positions.
  void Store(SequenceId sequence, int64_t layer, int64_t position, const float* keys,
             const float* values);

  /// The rows of one head in one page: row i is position page * page_tokens + i.
  struct PageRows {
    const std::byte* keys = nullptr;
    const std::byte* values = nullptr;
    int64_t key_stride = 0;  ///< bytes between rows
    int64_t value_stride = 0;
  };
  PageRows Rows(SequenceId sequence, int64_t layer, int64_t page, int64_t kv_head) const;

  DType type() const { return options_.type; }
  int64_t page_tokens() const { return options_.page_tokens; }
  int64_t kv_heads() const { return shape_.kv_heads; }
  /// Elements of a stored row: the head's dimension, rounded up with zeros to whole blocks of the
  /// type. Queries and outputs of attention over the rows must have as many.
  int64_t key_width() const { return shape_.key_width; }
  int64_t value_width() const { return shape_.value_width; }

  /// What a row of this type needs for `elements`.
  static int64_t PaddedWidth(DType type, int64_t elements);

 private:
  struct Shape {
    int64_t kv_heads = 0;
    int64_t key_dim = 0, key_width = 0;
    int64_t value_dim = 0, value_width = 0;  ///< of values, wherever they are read from
    int64_t key_row_bytes = 0;
    int64_t value_row_bytes = 0;  ///< 0 where values lie in the keys' rows
    int64_t layer_bytes = 0;      ///< of one layer of one page
  };
  /// Layers with one window, and their pages.
  struct Group {
    int64_t window = 0;  ///< 0: all positions
    int64_t layers = 0;
    int64_t pages = 0;
    int64_t slots = 0;  ///< page-table entries a sequence; page p is in entry p % slots
    int64_t page_bytes = 0;
    PageBuffer bytes;                 ///< [pages, layers, layer_bytes]
    std::vector<int32_t> table;       ///< [max_sequences, slots] physical pages
    std::vector<int32_t> references;  ///< [pages]
    std::vector<int32_t> free;        ///< unused pages; the last is taken first
    std::vector<int64_t> first, end;  ///< [max_sequences] pages held: [first, end)
  };
  struct LayerPlace {
    int32_t group = 0;
    int32_t index = 0;  ///< among the group's layers
  };
  struct Plan;

  KvCache(const Options& options, Plan plan);
  static Result<Plan> MakePlan(const ModelConfig& config, const Options& options);

  int32_t& Entry(Group& group, SequenceId sequence, int64_t page) const;
  int32_t Entry(const Group& group, SequenceId sequence, int64_t page) const;
  int64_t FirstNeededPage(const Group& group, int64_t length) const;
  void ReleasePages(Group& group, SequenceId sequence, int64_t begin, int64_t end);
  void Unreference(Group& group, int32_t page);
  bool ReserveIn(Group& group, SequenceId sequence, int64_t length, int64_t tokens);
  Result<void> CheckPrefix(SequenceId sequence, int64_t tokens) const;
  void CheckAlive(SequenceId sequence) const;

  Options options_;
  Shape shape_;
  std::vector<Group> groups_;
  std::vector<LayerPlace> layers_;
  std::vector<int64_t> lengths_;  ///< [max_sequences], -1: unused
};

}  // namespace moxie
