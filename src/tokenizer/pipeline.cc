#include "tokenizer/pipeline.h"

#include <algorithm>

namespace moxie {

PipelineTokenizer::PipelineTokenizer(TokenizerParts parts) : parts_(std::move(parts)) {
  std::vector<AddedToken> raw;
  std::vector<AddedToken> normalized;
  std::vector<std::string> raw_patterns;
  std::vector<std::string> normalized_patterns;
  for (const AddedToken& token : parts_.added) {
    if (!token.normalized) {
      raw.push_back(token);
      raw_patterns.push_back(token.content);
      continue;
    }
    normalized.push_back(token);
    normalized_patterns.push_back(Apply(parts_.normalizer, token.content));
    normalized_pieces_[token.id] = normalized_patterns.back();
  }
  raw_tokens_ = AddedTokenMatcher(std::move(raw), raw_patterns);
  normalized_tokens_ = AddedTokenMatcher(std::move(normalized), normalized_patterns);
  parts_.special.resize(static_cast<size_t>(parts_.vocabulary->size()));
}

std::vector<TokenId> PipelineTokenizer::Encode(std::string_view text,
                                               const EncodeOptions& options) const {
  std::vector<TokenId> ids;
  if (options.add_special) ids = parts_.prefix;
  std::string replaced;
  if (parts_.replace_invalid_utf8 && !IsValidUtf8(text)) {
    replaced = ReplaceInvalidUtf8(text);
    text = replaced;
  }
  Workspace workspace;
  for (const auto& segment : raw_tokens_.Cut(text, options.parse_special)) {
    if (segment.token != nullptr) {
      ids.push_back(segment.token->id);
    } else {
      EncodeOrdinary(segment.text, segment.begin == 0, options.parse_special, &workspace, &ids);
    }
  }
  if (options.add_special) ids.insert(ids.end(), parts_.suffix.begin(), parts_.suffix.end());
  return ids;
}

void PipelineTokenizer::EncodeOrdinary(std::string_view text, bool at_start, bool parse_special,
                                       Workspace* workspace, std::vector<TokenId>* ids) const {
  std::string normalized;
  if (!parts_.normalizer.empty()) {
    normalized = Apply(parts_.normalizer, text);
    text = normalized;
  }
  for (const auto& segment : normalized_tokens_.Cut(text, parse_special)) {
    if (segment.token != nullptr) {
      ids->push_back(segment.token->id);
      continue;
    }
    const auto encode_word = [&](std::string_view word) {
      parts_.model->Encode(word, workspace, ids);
    };
    parts_.pre_tokenizer.Apply(segment.text, at_start && segment.begin == 0, encode_word);
  }
}

const std::string* PipelineTokenizer::DecodedPiece(TokenId id) const {
  const auto normalized = normalized_pieces_.find(id);
  if (normalized != normalized_pieces_.end()) return &normalized->second;
  return parts_.vocabulary->Piece(id);
}

std::string PipelineTokenizer::Decode(const std::vector<TokenId>& ids, bool skip_special) const {
  std::vector<std::string> pieces;
  pieces.reserve(ids.size());
  for (const TokenId id : ids) {
    const std::string* piece = DecodedPiece(id);
    if (piece != nullptr && !(skip_special && IsSpecial(id))) pieces.push_back(*piece);
  }
  return parts_.decoder.Decode(std::move(pieces));
}

std::string PipelineTokenizer::Piece(TokenId id) const {
  const std::string* piece = parts_.vocabulary->Piece(id);
  return piece == nullptr ? std::string() : *piece;
}

std::string PipelineTokenizer::Bytes(TokenId id) const {
  const std::string* piece = DecodedPiece(id);
  return piece == nullptr ? std::string() : parts_.decoder.PieceBytes(*piece, false);
}

std::string PipelineTokenizer::FirstBytes(TokenId id) const {
  const std::string* piece = DecodedPiece(id);
  return piece == nullptr ? std::string() : parts_.decoder.PieceBytes(*piece, true);
}

std::optional<TokenId> PipelineTokenizer::FindPiece(std::string_view piece) const {
  return parts_.vocabulary->Find(piece);
}

bool PipelineTokenizer::IsSpecial(TokenId id) const {
  return id >= 0 && id < vocab_size() && parts_.special[static_cast<size_t>(id)];
}

bool PipelineTokenizer::adds_bos() const {
  return parts_.bos && !parts_.prefix.empty() && parts_.prefix.front() == *parts_.bos;
}

void AddStop(const Vocabulary& vocabulary, int64_t id, std::vector<TokenId>* stops) {
  if (id < 0 || id >= vocabulary.size()) return;
  const auto token = static_cast<TokenId>(id);
  if (std::find(stops->begin(), stops->end(), token) == stops->end()) stops->push_back(token);
}

void AddKnownStops(const Vocabulary& vocabulary, std::vector<TokenId>* stops) {
  // gpt-oss ends each message with <|end|>, and the turn with one of these two.
  const bool harmony = vocabulary.Find("<|return|>") && vocabulary.Find("<|call|>");
  for (const std::string_view piece :
       {"<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<end_of_turn>", "<turn|>", "<|endoftext|>",
        "<|end_of_text|>", "<|return|>", "<|call|>", "<|END_OF_TURN_TOKEN|>", "<EOT>", "<|EOT|>",
        "<｜end▁of▁sentence｜>", "<|end|>"}) {
    if (harmony && piece == "<|end|>") continue;
    if (const auto id = vocabulary.Find(piece)) AddStop(vocabulary, *id, stops);
  }
}

}  // namespace moxie
