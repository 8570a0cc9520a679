#include "tokenizer/bpe.h"

#include <algorithm>
#include <bit>

#include "tokenizer/unicode.h"

namespace moxie {

namespace {

// Symbols that never merge. Frozen pieces are kept as kFrozen - id.
constexpr TokenId kUnknownSymbol = -1;
constexpr TokenId kFrozen = -2;

uint64_t KeyOf(TokenId left, TokenId right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

uint64_t HashOf(uint64_t key) { return (key ^ (key >> 29)) * 0x9E3779B97F4A7C15u; }

// A heap's order: std::push_heap keeps the greatest in front, we want the lowest rank.
bool After(const Workspace::Candidate& a, const Workspace::Candidate& b) {
  return a.rank != b.rank ? a.rank > b.rank : a.position > b.position;
}

// The length of the character at `at`; ill-formed bytes count one each.
size_t LengthAt(std::string_view text, size_t at) {
  const DecodedCharacter c = DecodeUtf8(text, at);
  return c.valid ? c.length : 1;
}

}  // namespace

std::array<TokenId, 256> BytePieces(const Vocabulary& vocabulary) {
  static constexpr char kDigits[] = "0123456789ABCDEF";
  std::array<TokenId, 256> ids;
  for (size_t byte = 0; byte < ids.size(); ++byte) {
    const char piece[] = {'<', '0', 'x', kDigits[byte >> 4], kDigits[byte & 15], '>'};
    ids[byte] = vocabulary.Find(std::string_view(piece, sizeof piece)).value_or(-1);
  }
  return ids;
}

BpeModel::BpeModel(std::shared_ptr<const Vocabulary> vocabulary, const std::vector<Merge>& merges,
                   Options options, const ExtraCharacters& extra_characters)
    : vocabulary_(std::move(vocabulary)), options_(std::move(options)) {
  const size_t capacity = std::bit_ceil(std::max<size_t>(2 * merges.size(), 2));
  shift_ = 64 - std::countr_zero(capacity);
  pairs_.resize(capacity);
  for (const Merge& merge : merges) {
    const uint64_t key = KeyOf(merge.left, merge.right);
    size_t slot = HashOf(key) >> shift_;
    while (pairs_[slot].key != UINT64_MAX && pairs_[slot].key != key) {
      slot = (slot + 1) & (capacity - 1);
    }
    pairs_[slot] = {key, merge.rank, merge.merged};
  }

  ascii_ids_.fill(kUnknownSymbol);
  const auto add_character = [&](std::string_view piece, TokenId id) {
    if (piece.empty() || LengthAt(piece, 0) != piece.size()) return;
    if (piece.size() == 1 && (piece[0] & 0x80) == 0) {
      ascii_ids_[static_cast<uint8_t>(piece[0])] = id;
    } else {
      character_ids_.emplace(piece, id);
    }
  };
  for (TokenId id = 0; id < vocabulary_->size(); ++id) {
    if (const std::string* piece = vocabulary_->Piece(id)) add_character(*piece, id);
  }
  for (const auto& [piece, id] : extra_characters) add_character(piece, id);
  byte_ids_ = BytePieces(*vocabulary_);
}

Result<std::vector<BpeModel::Merge>> BpeModel::ResolveMerges(
    const Vocabulary& vocabulary, const std::vector<std::pair<std::string, std::string>>& merges) {
  std::vector<Merge> resolved;
  resolved.reserve(merges.size());
  for (const auto& [left, right] : merges) {
    const auto left_id = vocabulary.Find(left);
    const auto right_id = vocabulary.Find(right);
    const auto merged = vocabulary.Find(left + right);
    if (!left_id || !right_id || !merged) {
      const std::string missing = !left_id ? left : !right_id ? right : left + right;
      return Error{ErrorCode::kInvalidInput, "merges: merge " + std::to_string(resolved.size()) +
                                                 " needs the piece \"" +
                                                 ReplaceInvalidUtf8(missing.substr(0, 100)) +
                                                 "\", which the vocabulary lacks"};
    }
    resolved.push_back({*left_id, *right_id, *merged, static_cast<uint32_t>(resolved.size())});
  }
  return resolved;
}

std::vector<BpeModel::Merge> BpeModel::MergesFromRanks(const Vocabulary& vocabulary,
                                                       const std::vector<uint32_t>& rank,
                                                       ExtraCharacters* extra_characters) {
  // Characters outside the vocabulary take ids behind it: they merge, but are unknown if left over.
  std::unordered_map<std::string_view, TokenId> extra;
  const auto part_id = [&](std::string_view part) -> TokenId {
    const auto id = vocabulary.Find(part);
    if (id && rank[static_cast<size_t>(*id)] != UINT32_MAX) return *id;
    if (LengthAt(part, 0) != part.size()) return -1;
    const auto next = vocabulary.size() + static_cast<TokenId>(extra.size());
    return extra.emplace(part, next).first->second;
  };
  std::vector<Merge> merges;
  for (TokenId id = 0; id < vocabulary.size(); ++id) {
    const std::string* piece = vocabulary.Piece(id);
    if (piece == nullptr || rank[static_cast<size_t>(id)] == UINT32_MAX) continue;
    const std::string_view text = *piece;
    for (size_t at = 0; at < text.size();) {
      at += LengthAt(text, at);
      if (at >= text.size()) break;
      const TokenId left = part_id(text.substr(0, at));
      const TokenId right = left < 0 ? -1 : part_id(text.substr(at));
      if (right >= 0) merges.push_back({left, right, id, rank[static_cast<size_t>(id)]});
    }
  }
  for (const auto& [piece, id] : extra) extra_characters->emplace_back(piece, id);
  return merges;
}

const BpeModel::Pair* BpeModel::FindPair(TokenId left, TokenId right) const {
  if (left < 0 || right < 0) return nullptr;
  const uint64_t key = KeyOf(left, right);
  for (size_t slot = HashOf(key) >> shift_;; slot = (slot + 1) & (pairs_.size() - 1)) {
    if (pairs_[slot].key == key) return &pairs_[slot];
    if (pairs_[slot].key == UINT64_MAX) return nullptr;
  }
}

TokenId BpeModel::CharacterId(std::string_view character) const {
  if (character.size() == 1 && (character[0] & 0x80) == 0) {
    return ascii_ids_[static_cast<uint8_t>(character[0])];
  }
  // Up to four bytes: the string stays within its small buffer, nothing is allocated.
  const auto found = character_ids_.find(std::string(character));
  return found == character_ids_.end() ? kUnknownSymbol : found->second;
}

void BpeModel::AddSymbol(TokenId id, size_t start, Workspace* workspace) const {
  const auto index = static_cast<int32_t>(workspace->symbols.size());
  workspace->symbols.push_back({id, index - 1, index + 1, static_cast<uint32_t>(start)});
}

void BpeModel::Split(std::string_view word, Workspace* workspace) const {
  bool after_unknown = false;
  for (size_t at = 0; at < word.size();) {
    const PieceTrie::Match frozen = options_.frozen.Longest(word, at);
    if (frozen.length != 0) {
      AddSymbol(kFrozen - frozen.id, at, workspace);
      at += frozen.length;
      continue;
    }
    const size_t length = LengthAt(word, at);
    const TokenId id = CharacterId(word.substr(at, length));
    if (id == kUnknownSymbol) {
      SplitUnknown(word.substr(at, length), at, workspace, &after_unknown);
    } else {
      AddSymbol(id, at, workspace);
      after_unknown = false;
    }
    at += length;
  }
  if (!workspace->symbols.empty()) workspace->symbols.back().next = -1;
}

void BpeModel::SplitUnknown(std::string_view character, size_t start, Workspace* workspace,
                            bool* after_unknown) const {
  if (options_.unknown_last) {
    AddSymbol(kUnknownSymbol, start, workspace);
    return;
  }
  if (options_.byte_fallback && HasBytes(character)) {
    for (size_t i = 0; i < character.size(); ++i) {
      AddSymbol(byte_ids_[static_cast<unsigned char>(character[i])], start + i, workspace);
    }
    return;
  }
  if (!options_.unknown || (*after_unknown && options_.fuse_unknown)) return;
  AddSymbol(*options_.unknown, start, workspace);
  *after_unknown = true;
}

bool BpeModel::HasBytes(std::string_view text) const {
  return std::all_of(text.begin(), text.end(),
                     [&](char c) { return byte_ids_[static_cast<unsigned char>(c)] >= 0; });
}

void BpeModel::Propose(int32_t left, int32_t right, Workspace* workspace) const {
  if (left < 0 || right < 0) return;
  const TokenId left_id = workspace->symbols[static_cast<size_t>(left)].id;
  const TokenId right_id = workspace->symbols[static_cast<size_t>(right)].id;
  const Pair* pair = FindPair(left_id, right_id);
  if (pair == nullptr) return;
  workspace->candidates.push_back({pair->rank, static_cast<uint32_t>(left), pair->merged});
  const auto merged = static_cast<size_t>(pair->merged);
  if (merged < options_.unused.size() && options_.unused[merged]) {
    workspace->parts[pair->merged] = {left_id, right_id};
  }
}

void BpeModel::MergeAll(Workspace* workspace) const {
  auto& symbols = workspace->symbols;
  auto& heap = workspace->candidates;
  for (size_t i = 1; i < symbols.size(); ++i) {
    Propose(static_cast<int32_t>(i - 1), static_cast<int32_t>(i), workspace);
  }
  std::make_heap(heap.begin(), heap.end(), After);
  const auto propose = [&](int32_t left, int32_t right) {
    const size_t before = heap.size();
    Propose(left, right, workspace);
    if (heap.size() != before) std::push_heap(heap.begin(), heap.end(), After);
  };
  while (!heap.empty()) {
    const Workspace::Candidate best = heap.front();
    std::pop_heap(heap.begin(), heap.end(), After);
    heap.pop_back();
    Workspace::Symbol& left = symbols[best.position];
    if (left.next < 0) continue;
    Workspace::Symbol& right = symbols[static_cast<size_t>(left.next)];
    // The symbols may have been merged with others since; absorbed ones have next -1.
    const Pair* pair = FindPair(left.id, right.id);
    if (pair == nullptr || pair->merged != best.merged) continue;
    left.id = best.merged;
    left.next = right.next;
    right.id = kUnknownSymbol;
    right.next = -1;
    if (left.next >= 0) {
      symbols[static_cast<size_t>(left.next)].previous = static_cast<int32_t>(best.position);
    }
    propose(left.previous, static_cast<int32_t>(best.position));
    propose(static_cast<int32_t>(best.position), left.next);
  }
}

void BpeModel::Emit(std::string_view word, Workspace* workspace, std::vector<TokenId>* ids) const {
  const auto& symbols = workspace->symbols;
  bool after_unknown = false;
  for (int32_t i = 0; i >= 0; i = symbols[static_cast<size_t>(i)].next) {
    const Workspace::Symbol& symbol = symbols[static_cast<size_t>(i)];
    const bool unknown = symbol.id == kUnknownSymbol || symbol.id >= vocabulary_->size();
    if (!unknown) {
      EmitParts(symbol.id <= kFrozen ? kFrozen - symbol.id : symbol.id, workspace, ids);
    } else {
      const size_t end =
          symbol.next < 0 ? word.size() : symbols[static_cast<size_t>(symbol.next)].start;
      const std::string_view text = word.substr(symbol.start, end - symbol.start);
      if (options_.byte_fallback && HasBytes(text)) {
        for (const char c : text) ids->push_back(byte_ids_[static_cast<unsigned char>(c)]);
      } else if (options_.unknown && !(after_unknown && options_.fuse_unknown)) {
        ids->push_back(*options_.unknown);
      }
    }
    after_unknown = unknown;
  }
}

void BpeModel::EmitParts(TokenId id, Workspace* workspace, std::vector<TokenId>* ids) const {
  const auto unused = [&](TokenId token) {
    return static_cast<size_t>(token) < options_.unused.size() &&
           options_.unused[static_cast<size_t>(token)];
  };
  if (!unused(id)) {
    ids->push_back(id);
    return;
  }
  std::vector<TokenId> open = {id};
  while (!open.empty()) {
    const TokenId token = open.back();
    open.pop_back();
    const auto parts = workspace->parts.find(token);
    if (!unused(token) || parts == workspace->parts.end()) {
      ids->push_back(token < vocabulary_->size() ? token : options_.unknown.value_or(0));
      continue;
    }
    open.push_back(parts->second.second);
    open.push_back(parts->second.first);
  }
}

void BpeModel::EncodePart(std::string_view word, Workspace* workspace,
                          std::vector<TokenId>* ids) const {
  workspace->symbols.clear();
  workspace->candidates.clear();
  Split(word, workspace);
  if (workspace->symbols.empty()) return;
  MergeAll(workspace);
  Emit(word, workspace, ids);
  workspace->parts.clear();
}

void BpeModel::Encode(std::string_view word, Workspace* workspace,
                      std::vector<TokenId>* ids) const {
  if (options_.ignore_merges) {
    if (const auto id = vocabulary_->Find(word)) {
      ids->push_back(*id);
      return;
    }
  }
  while (word.size() > kMaxWordBytes) {
    size_t cut = kMaxWordBytes;
    while ((static_cast<unsigned char>(word[cut]) & 0xC0) == 0x80) --cut;
    EncodePart(word.substr(0, cut), workspace, ids);
    word.remove_prefix(cut);
  }
  EncodePart(word, workspace, ids);
}

}  // namespace moxie
