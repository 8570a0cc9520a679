#pragma once

#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <vector>

#include "moxie/constraint.h"
#include "sampling/grammar.h"
#include "sampling/parse_state.h"
#include "sampling/token_trie.h"

namespace moxie {

/// A vocabulary as constraints see it: the bytes of its text tokens, and the tokens that end a
/// turn. Special tokens and tokens without bytes are in no trie. Immutable.
struct TokenTries {
  explicit TokenTries(const Tokenizer& tokenizer);

  /// Tokens of up to kRepeatHorizon bytes, and the few longer ones.
  struct Pair {
    TokenTrie shorter;
    TokenTrie longer;
  };
  Pair within;                ///< by the bytes that tokens add to a text that has begun
  std::optional<Pair> first;  ///< by those of an answer's first token, where any differ
  std::vector<bool> special;
  std::vector<TokenId> stop_tokens;
  size_t mask_words = 0;
};

/// The most recently used token masks, by the parse state's fingerprint. Safe to use concurrently.
class MaskCache {
 public:
  using Mask = std::shared_ptr<const TokenMask>;
  explicit MaskCache(size_t capacity) : capacity_(capacity) {}

  Mask Find(const Fingerprint& key);
  void Add(const Fingerprint& key, Mask mask);

 private:
  struct Entry {
    Fingerprint key;
    Mask mask;
  };
  std::mutex mutex_;
  size_t capacity_;
  std::list<Entry> entries_;  ///< the most recently used first
  std::unordered_map<Fingerprint, std::list<Entry>::iterator, FingerprintHash> by_key_;
};

struct Constraint::Impl {
  const Tokenizer* tokenizer;
  std::shared_ptr<const TokenTries> tries;
  Grammar grammar;
  std::unique_ptr<MaskCache> masks;
};

/// Compilers, one a notation: each adds rules to the builder and returns the first of them. The
/// messages of their errors do not name the notation.
Result<GrammarBuilder::Rule> AddRegex(std::string_view pattern, GrammarBuilder* builder);
Result<GrammarBuilder::Rule> AddGbnf(std::string_view text, const Tokenizer& tokenizer,
                                     GrammarBuilder* builder);

}  // namespace moxie
