#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "moxie/result.h"
#include "moxie/tokenizer.h"

namespace moxie {

/// Limits of what a file may ask for: ids beyond, or longer pieces, are errors.
constexpr int64_t kMaxVocabularySize = 4'000'000;
constexpr size_t kMaxPieceBytes = 1 << 16;

/// Pieces and their ids, both ways. Ids may have gaps. Immutable once built.
class Vocabulary {
 public:
  Vocabulary() = default;
  Vocabulary(Vocabulary&&) = default;
  Vocabulary& operator=(Vocabulary&&) = default;

  /// Errors: kInvalidInput for an id below 0 or far above the number of pieces, an id or a piece
  /// given twice, a piece over kMaxPieceBytes.
  static Result<Vocabulary> Create(std::vector<std::pair<std::string, int64_t>> pieces);

  std::optional<TokenId> Find(std::string_view piece) const;
  /// The piece of an id, or nothing for a gap or an id outside.
  const std::string* Piece(TokenId id) const;
  /// One more than the highest id.
  int32_t size() const { return static_cast<int32_t>(pieces_.size()); }

 private:
  struct Slot {
    uint32_t hash = 0;
    TokenId id = -1;  ///< none
  };
  size_t SlotOf(std::string_view piece, uint32_t hash) const;

  std::vector<std::string> pieces_;
  std::vector<bool> present_;
  std::vector<Slot> slots_;  ///< by hash, a power of two and at most half full
};

}  // namespace moxie
