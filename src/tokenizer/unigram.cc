#include "tokenizer/unigram.h"

#include <algorithm>
#include <limits>

#include "tokenizer/bpe.h"
#include "tokenizer/unicode.h"

namespace moxie {

namespace {

constexpr double kUnknownPenalty = 10;
constexpr uint32_t kUnreached = UINT32_MAX;

bool Has(const std::vector<bool>& set, TokenId id) {
  return static_cast<size_t>(id) < set.size() && set[static_cast<size_t>(id)];
}

}  // namespace

UnigramModel::UnigramModel(std::shared_ptr<const Vocabulary> vocabulary, std::vector<double> scores,
                           Options options)
    : vocabulary_(std::move(vocabulary)), scores_(std::move(scores)), options_(std::move(options)) {
  double min_score = std::numeric_limits<float>::max();
  // The smallest positive float, as in SentencePiece: real scores are logarithms, so it stays.
  max_score_ = std::numeric_limits<float>::min();
  std::vector<std::pair<std::string_view, TokenId>> pieces;
  scores_.resize(static_cast<size_t>(vocabulary_->size()));
  for (TokenId id = 0; id < vocabulary_->size(); ++id) {
    const std::string* piece = vocabulary_->Piece(id);
    if (piece == nullptr || Has(options_.reserved, id)) continue;
    if (!Has(options_.unused, id)) pieces.emplace_back(*piece, id);
    if (Has(options_.unused, id) || Has(options_.user_defined, id)) continue;
    min_score = std::min(min_score, scores_[static_cast<size_t>(id)]);
    max_score_ = std::max(max_score_, scores_[static_cast<size_t>(id)]);
  }
  unknown_score_ = min_score - kUnknownPenalty;
  if (options_.single_precision) unknown_score_ = static_cast<float>(unknown_score_);
  trie_ = PieceTrie(std::move(pieces));
  byte_ids_ = BytePieces(*vocabulary_);
}

double UnigramModel::ScoreOf(TokenId id, size_t length) const {
  if (!Has(options_.user_defined, id)) return scores_[static_cast<size_t>(id)];
  // A bonus that makes it always win; the product is a float in SentencePiece.
  return static_cast<double>(static_cast<float>(length) * static_cast<float>(max_score_)) - 0.1;
}

void UnigramModel::FindBestPaths(std::string_view word, Workspace* workspace) const {
  auto& paths = workspace->paths;
  paths.assign(word.size() + 1, {0, -1, kUnreached});
  const auto reach = [&](size_t end, size_t start, TokenId id, double score) {
    Workspace::BestPath& path = paths[end];
    if (path.start != kUnreached && !(score > path.score)) return;
    path = {options_.single_precision ? static_cast<float>(score) : score, id,
            static_cast<uint32_t>(start)};
  };
  for (size_t at = 0; at < word.size();) {
    const double so_far = paths[at].score;
    const size_t length = std::min(CharacterLength(word[at]), word.size() - at);
    bool has_character = false;
    trie_.ForEachPrefix(word, at, [&](size_t piece_length, TokenId id) {
      const double score = ScoreOf(id, piece_length);
      // SentencePiece adds in double only where the user-defined bonus made the sum double.
      reach(at + piece_length, at, id, score + so_far);
      has_character = has_character || piece_length == length;
    });
    if (!has_character) {
      const double score = unknown_score_ + so_far;
      reach(at + length, at, -1, options_.single_precision ? static_cast<float>(score) : score);
    }
    at += length;
  }
}

void UnigramModel::EmitUnknown(std::string_view text, std::vector<TokenId>* ids) const {
  const auto byte_id = [&](char c) { return byte_ids_[static_cast<unsigned char>(c)]; };
  if (options_.byte_fallback &&
      std::all_of(text.begin(), text.end(), [&](char c) { return byte_id(c) >= 0; })) {
    for (const char c : text) ids->push_back(byte_id(c));
  } else if (options_.unknown) {
    ids->push_back(*options_.unknown);
  }
}

void UnigramModel::EncodePart(std::string_view word, Workspace* workspace,
                              std::vector<TokenId>* ids) const {
  FindBestPaths(word, workspace);
  const auto& paths = workspace->paths;
  // Backwards: turn "where this piece starts" into "where the next piece ends".
  std::vector<size_t> ends;
  for (size_t end = word.size(); end > 0; end = paths[end].start) ends.push_back(end);
  size_t unknown_from = std::string_view::npos;
  size_t start = 0;
  for (size_t i = ends.size(); i-- > 0;) {
    const size_t end = ends[i];
    const TokenId id = paths[end].id;
    const bool unknown = id < 0 || (options_.unknown && id == *options_.unknown);
    if (unknown && unknown_from == std::string_view::npos) unknown_from = start;
    if (!unknown) {
      if (unknown_from != std::string_view::npos) {
        EmitUnknown(word.substr(unknown_from, start - unknown_from), ids);
      }
      unknown_from = std::string_view::npos;
      ids->push_back(id);
    }
    start = end;
  }
  if (unknown_from != std::string_view::npos) EmitUnknown(word.substr(unknown_from), ids);
}

void UnigramModel::Encode(std::string_view word, Workspace* workspace,
                          std::vector<TokenId>* ids) const {
  while (word.size() > kMaxWordBytes) {
    size_t cut = kMaxWordBytes;
    while ((static_cast<unsigned char>(word[cut]) & 0xC0) == 0x80) --cut;
    EncodePart(word.substr(0, cut), workspace, ids);
    word.remove_prefix(cut);
  }
  EncodePart(word, workspace, ids);
}

}  // namespace moxie
