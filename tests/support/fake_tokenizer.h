#pragma once

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "moxie/tokenizer.h"

namespace moxie::testing {

/// A vocabulary of given byte strings: the 256 bytes, then `pieces`, then special tokens, the first
/// of which ends a turn.
class FakeTokenizer : public Tokenizer {
 public:
  explicit FakeTokenizer(std::vector<std::string> pieces = {},
                         std::vector<std::string> special = {"</s>"}) {
    for (int byte = 0; byte < 256; ++byte) pieces_.emplace_back(1, static_cast<char>(byte));
    pieces_.insert(pieces_.end(), pieces.begin(), pieces.end());
    first_special_ = static_cast<TokenId>(pieces_.size());
    pieces_.insert(pieces_.end(), special.begin(), special.end());
    stops_ = {first_special_};
  }

  std::vector<TokenId> Encode(std::string_view text, const EncodeOptions&) const override {
    std::vector<TokenId> ids;
    for (const char c : text) ids.push_back(static_cast<uint8_t>(c));
    return ids;
  }
  std::string Decode(const std::vector<TokenId>& ids, bool) const override {
    std::string text;
    for (const TokenId id : ids) text += Bytes(id);
    return text;
  }
  std::string Piece(TokenId id) const override { return pieces_[static_cast<size_t>(id)]; }
  std::string Bytes(TokenId id) const override { return IsSpecial(id) ? "" : Piece(id); }
  int32_t vocab_size() const override { return static_cast<int32_t>(pieces_.size()); }
  std::optional<TokenId> bos() const override { return std::nullopt; }
  std::optional<TokenId> eos() const override { return first_special_; }
  std::optional<TokenId> FindPiece(std::string_view piece) const override {
    const auto found = std::find(pieces_.begin(), pieces_.end(), piece);
    if (found == pieces_.end()) return std::nullopt;
    return static_cast<TokenId>(found - pieces_.begin());
  }
  bool IsSpecial(TokenId id) const override { return id >= first_special_; }
  bool adds_bos() const override { return false; }
  const std::vector<TokenId>& stop_tokens() const override { return stops_; }

 private:
  std::vector<std::string> pieces_;
  TokenId first_special_ = 0;
  std::vector<TokenId> stops_;
};

}  // namespace moxie::testing
