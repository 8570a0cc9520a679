#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "moxie/result.h"
#include "tokenizer/piece_trie.h"
#include "tokenizer/token_model.h"
#include "tokenizer/vocabulary.h"

namespace moxie {

/// Byte-pair encoding (Sennrich et al., arXiv:1508.07909, section 3.2): the adjacent pair with the
/// lowest rank is joined first, the leftmost of equals, until no pair has a rank. Serves byte-level
/// vocabularies, Llama's with byte fallback, SentencePiece's and tiktoken's, which differ in how
/// the table of pairs comes about and in what happens to unknown characters.
class BpeModel : public TokenModel {
 public:
  struct Merge {
    TokenId left;
    TokenId right;
    TokenId merged;
    uint32_t rank;
  };

  struct Options {
    std::optional<TokenId> unknown;
    bool fuse_unknown = false;
    /// Unknown characters become their bytes' pieces (<0x0A>) where all of them exist.
    bool byte_fallback = false;
    /// Unknown characters are dealt with after merging, as in SentencePiece, not before it, as in
    /// tokenizer.json.
    bool unknown_last = false;
    /// A word that is a piece becomes that piece, whatever the merges say.
    bool ignore_merges = false;
    /// Pieces that are cut out of the text first and never merged (SentencePiece's user-defined).
    PieceTrie frozen;
    /// Pieces that merging may pass through but that are not put out: by id, or empty.
    std::vector<bool> unused;
  };

  /// Adds the single characters that pieces contain but the vocabulary lacks (see FromScores).
  using ExtraCharacters = std::vector<std::pair<std::string, TokenId>>;

  BpeModel(std::shared_ptr<const Vocabulary> vocabulary, const std::vector<Merge>& merges,
           Options options, const ExtraCharacters& extra_characters = {});

  /// Merges as files write them: "left right", or pairs; the rank is the place in the list.
  ///
  /// Errors: kInvalidInput for a piece or a result that the vocabulary lacks.
  static Result<std::vector<Merge>> ResolveMerges(
      const Vocabulary& vocabulary, const std::vector<std::pair<std::string, std::string>>& merges);

  /// The merges of a vocabulary whose pieces have priorities (SentencePiece's scores, tiktoken's
  /// ranks): any two neighbours whose concatenation is a piece join, better pieces first.
  /// `rank[id]` is the place of a piece, lower first; UINT32_MAX: cannot be made by merging.
  static std::vector<Merge> MergesFromRanks(const Vocabulary& vocabulary,
                                            const std::vector<uint32_t>& rank,
                                            ExtraCharacters* extra_characters);

  void Encode(std::string_view word, Workspace* workspace,
              std::vector<TokenId>* ids) const override;

 private:
  struct Pair {
    uint64_t key = UINT64_MAX;
    uint32_t rank = 0;
    TokenId merged = -1;
  };

  const Pair* FindPair(TokenId left, TokenId right) const;
  TokenId CharacterId(std::string_view character) const;
  void AddSymbol(TokenId id, size_t start, Workspace* workspace) const;
  void Split(std::string_view word, Workspace* workspace) const;
  void SplitUnknown(std::string_view character, size_t start, Workspace* workspace,
                    bool* after_unknown) const;
  void Propose(int32_t left, int32_t right, Workspace* workspace) const;
  void MergeAll(Workspace* workspace) const;
  void Emit(std::string_view word, Workspace* workspace, std::vector<TokenId>* ids) const;
  bool HasBytes(std::string_view text) const;
  void EmitParts(TokenId id, Workspace* workspace, std::vector<TokenId>* ids) const;
  void EncodePart(std::string_view word, Workspace* workspace, std::vector<TokenId>* ids) const;

  std::shared_ptr<const Vocabulary> vocabulary_;
  Options options_;
  std::vector<Pair> pairs_;  // Open addressing, a power of two long.
  int shift_ = 63;
  std::array<TokenId, 128> ascii_ids_;
  std::unordered_map<std::string, TokenId> character_ids_;
  std::array<TokenId, 256> byte_ids_;
};

/// The ids of the pieces <0x00> to <0xFF>, -1 where one is missing.
std::array<TokenId, 256> BytePieces(const Vocabulary& vocabulary);

}  // namespace moxie
