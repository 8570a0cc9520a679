#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/piece_trie.h"

namespace moxie {

/// A token that is cut out of the text before the model sees it (tokenizer.json's added_tokens).
struct AddedToken {
  TokenId id = -1;
  std::string content;
  bool special = false;      ///< not shown in answers; plain text unless parse_special
  bool single_word = false;  ///< not within a word
  bool lstrip = false;       ///< takes the white space before it along
  bool rstrip = false;
  bool normalized = false;  ///< looked for in the normalised text
};

/// Finds added tokens as Hugging Face's `tokenizers` does: leftmost first, the longest of those
/// that start there, none overlapping. Immutable.
class AddedTokenMatcher {
 public:
  AddedTokenMatcher() = default;
  /// `patterns[i]` is the text that stands for `tokens[i]`.
  AddedTokenMatcher(std::vector<AddedToken> tokens, const std::vector<std::string>& patterns);

  struct Segment {
    std::string_view text;
    size_t begin = 0;                   ///< of `text` in what was cut
    const AddedToken* token = nullptr;  ///< null: ordinary text
  };

  /// The text as ordinary stretches and tokens. `text` may hold any bytes.
  std::vector<Segment> Cut(std::string_view text, bool parse_special) const;

 private:
  std::vector<AddedToken> tokens_;
  PieceTrie trie_;  // Ids are places in tokens_.
};

}  // namespace moxie
