#include "tokenizer/vocabulary.h"

#include <algorithm>
#include <bit>
#include <functional>

namespace moxie {
namespace {

uint32_t HashOf(std::string_view piece) {
  const size_t hash = std::hash<std::string_view>()(piece);
  return static_cast<uint32_t>(hash ^ hash >> 32);
}

}  // namespace

Result<Vocabulary> Vocabulary::Create(std::vector<std::pair<std::string, int64_t>> pieces) {
  // Published vocabularies have gaps of at most a few thousand reserved ids.
  const int64_t limit =
      std::min(kMaxVocabularySize, 4 * static_cast<int64_t>(pieces.size()) + 65'536);
  int64_t size = 0;
  size_t work = 0;
  for (const auto& [piece, id] : pieces) {
    if (id < 0 || id >= limit) {
      return Error{ErrorCode::kInvalidInput, "vocabulary: token id " + std::to_string(id) +
                                                 " must be in 0.." + std::to_string(limit - 1)};
    }
    if (piece.size() > kMaxPieceBytes) {
      return Error{ErrorCode::kInvalidInput, "vocabulary: the piece of token " +
                                                 std::to_string(id) + " has " +
                                                 std::to_string(piece.size()) + " bytes, at most " +
                                                 std::to_string(kMaxPieceBytes) + " are expected"};
    }
    size = std::max(size, id + 1);
    work += piece.size() * piece.size();
  }
  // Finding the parts of pieces costs the squares of their lengths; real vocabularies need 2^26.
  if (work > size_t{1} << 32) {
    return Error{ErrorCode::kInvalidInput, "vocabulary: its pieces are too long in all"};
  }
  Vocabulary vocabulary;
  vocabulary.pieces_.resize(static_cast<size_t>(size));
  vocabulary.present_.resize(static_cast<size_t>(size));
  vocabulary.slots_.resize(std::bit_ceil(2 * pieces.size() + 1));
  for (auto& entry : pieces) {
    const int64_t id = entry.second;
    const auto at = static_cast<size_t>(id);
    if (vocabulary.present_[at]) {
      return Error{ErrorCode::kInvalidInput,
                   "vocabulary: token id " + std::to_string(id) + " is given twice"};
    }
    vocabulary.present_[at] = true;
    vocabulary.pieces_[at] = std::move(entry.first);
    const uint32_t hash = HashOf(vocabulary.pieces_[at]);
    Slot& slot = vocabulary.slots_[vocabulary.SlotOf(vocabulary.pieces_[at], hash)];
    const TokenId known = std::exchange(slot.id, static_cast<TokenId>(id));
    slot.hash = hash;
    if (known >= 0) {
      return Error{ErrorCode::kInvalidInput, "vocabulary: tokens " + std::to_string(known) +
                                                 " and " + std::to_string(id) +
                                                 " are the same piece"};
    }
  }
  return vocabulary;
}

std::optional<TokenId> Vocabulary::Find(std::string_view piece) const {
  if (slots_.empty()) return std::nullopt;
  const TokenId id = slots_[SlotOf(piece, HashOf(piece))].id;
  return id < 0 ? std::nullopt : std::optional(id);
}

/// Where the piece is, or would be.
size_t Vocabulary::SlotOf(std::string_view piece, uint32_t hash) const {
  const size_t mask = slots_.size() - 1;
  for (size_t at = hash & mask;; at = (at + 1) & mask) {
    const Slot& slot = slots_[at];
    if (slot.id < 0 || (slot.hash == hash && pieces_[static_cast<size_t>(slot.id)] == piece))
      return at;
  }
}

const std::string* Vocabulary::Piece(TokenId id) const {
  if (id < 0 || id >= size() || !present_[static_cast<size_t>(id)]) return nullptr;
  return &pieces_[static_cast<size_t>(id)];
}

}  // namespace moxie
