#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "tokenizer/piece_trie.h"
#include "tokenizer/token_model.h"
#include "tokenizer/vocabulary.h"

namespace moxie {

/// The unigram language model (Kudo, arXiv:1804.10959, section 3.2): the segmentation with the
/// greatest sum of scores, by Viterbi's algorithm over the text's bytes.
class UnigramModel : public TokenModel {
 public:
  struct Options {
    std::optional<TokenId> unknown;
    bool byte_fallback = false;
    /// SentencePiece adds scores in float32 and tokenizer.json's reference in float64; near ties
    /// fall differently.
    bool single_precision = true;
    /// By id: pieces to be chosen wherever they occur, and pieces never to be chosen.
    std::vector<bool> user_defined;
    std::vector<bool> unused;
    /// By id: pieces that cannot stand for text (control, unknown, byte). May be empty.
    std::vector<bool> reserved;
  };

  /// `scores` by id.
  UnigramModel(std::shared_ptr<const Vocabulary> vocabulary, std::vector<double> scores,
               Options options);

  void Encode(std::string_view word, Workspace* workspace,
              std::vector<TokenId>* ids) const override;

 private:
  double ScoreOf(TokenId id, size_t length) const;
  void FindBestPaths(std::string_view word, Workspace* workspace) const;
  void EncodePart(std::string_view word, Workspace* workspace, std::vector<TokenId>* ids) const;
  void EmitUnknown(std::string_view text, std::vector<TokenId>* ids) const;

  std::shared_ptr<const Vocabulary> vocabulary_;
  std::vector<double> scores_;
  Options options_;
  PieceTrie trie_;
  double unknown_score_ = 0;
  double max_score_ = 0;
  std::array<TokenId, 256> byte_ids_;
};

}  // namespace moxie
