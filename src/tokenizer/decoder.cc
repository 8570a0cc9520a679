#include "tokenizer/decoder.h"

#include <algorithm>

#include "tokenizer/normalizer.h"
#include "tokenizer/unicode.h"

namespace moxie {

namespace {

using Kind = DecoderStep::Kind;

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  c = static_cast<char>(c | 0x20);
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

std::string ByteLevelBytes(std::string_view piece) {
  return CharactersToBytes(piece).value_or(std::string(piece));
}

std::string DropMetaspace(std::string_view piece, const DecoderStep& step, bool first) {
  return ReplaceAll(piece, step.pattern, first && step.strips_first ? "" : " ");
}

std::string ReplaceIn(std::string_view piece, const DecoderStep& step) {
  return step.regex != nullptr ? ReplaceAll(piece, *step.regex, step.text)
                               : ReplaceAll(piece, step.pattern, step.text);
}

std::string StripPiece(std::string_view piece, const DecoderStep& step) {
  for (size_t i = 0; i < step.start && piece.starts_with(step.text); ++i) {
    piece.remove_prefix(step.text.size());
  }
  for (size_t i = 0; i < step.stop && piece.ends_with(step.text); ++i) {
    piece.remove_suffix(step.text.size());
  }
  return std::string(piece);
}

// A run of byte pieces becomes text if it is text as a whole, else one U+FFFD for each of them.
void JoinBytes(std::vector<std::string>* pieces) {
  std::vector<std::string> joined;
  joined.reserve(pieces->size());
  std::string run;
  const auto flush = [&] {
    if (run.empty()) return;
    if (IsValidUtf8(run)) {
      joined.push_back(run);
    } else {
      joined.insert(joined.end(), run.size(), std::string(kReplacementUtf8));
    }
    run.clear();
  };
  for (std::string& piece : *pieces) {
    const int byte = ByteOfPiece(piece);
    if (byte >= 0) {
      run.push_back(static_cast<char>(byte));
    } else {
      flush();
      joined.push_back(std::move(piece));
    }
  }
  flush();
  *pieces = std::move(joined);
}

std::string Join(const std::vector<std::string>& pieces, std::string_view between = "") {
  std::string text;
  for (size_t i = 0; i < pieces.size(); ++i) {
    if (i > 0) text += between;
    text += pieces[i];
  }
  return text;
}

}  // namespace

int ByteOfPiece(std::string_view piece) {
  if (piece.size() != 6 || !piece.starts_with("<0x") || piece.back() != '>') return -1;
  const int high = HexDigit(piece[3]);
  const int low = HexDigit(piece[4]);
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

void TokenDecoder::ApplyStep(const DecoderStep& step, std::vector<std::string>* pieces) {
  switch (step.kind) {
    case Kind::kByteLevel: {
      std::string bytes;
      for (const std::string& piece : *pieces) bytes += ByteLevelBytes(piece);
      *pieces = {ReplaceInvalidUtf8(bytes)};
      break;
    }
    case Kind::kByteFallback:
      JoinBytes(pieces);
      break;
    case Kind::kFuse:
      *pieces = {Join(*pieces)};
      break;
    case Kind::kMetaspace:
      for (size_t i = 0; i < pieces->size(); ++i) {
        (*pieces)[i] = DropMetaspace((*pieces)[i], step, i == 0);
      }
      break;
    case Kind::kReplace:
      for (std::string& piece : *pieces) piece = ReplaceIn(piece, step);
      break;
    case Kind::kStrip:
      for (std::string& piece : *pieces) piece = StripPiece(piece, step);
      break;
  }
}

std::string TokenDecoder::Decode(std::vector<std::string> pieces) const {
  for (const DecoderStep& step : steps_) ApplyStep(step, &pieces);
  return Join(pieces, steps_.empty() ? " " : "");
}

std::string TokenDecoder::PieceBytes(std::string_view piece, bool begins) const {
  std::string bytes(piece);
  if (steps_.empty() && !begins) bytes.insert(0, " ");
  bool fused = false;
  for (const DecoderStep& step : steps_) {
    switch (step.kind) {
      case Kind::kByteLevel:
        bytes = ByteLevelBytes(bytes);
        break;
      case Kind::kByteFallback:
        if (const int byte = ByteOfPiece(bytes); byte >= 0) bytes = static_cast<char>(byte);
        break;
      case Kind::kFuse:
        fused = true;
        break;
      case Kind::kMetaspace:
        bytes = DropMetaspace(bytes, step, begins);
        break;
      case Kind::kReplace:
        bytes = ReplaceIn(bytes, step);
        break;
      case Kind::kStrip:
        // After Fuse it concerns the whole text's ends, of which only the start is known here.
        if (begins || !fused) bytes = StripPiece(bytes, step);
        break;
    }
  }
  return bytes;
}

}  // namespace moxie
