#pragma once

#include <string>

#include "tokenizer/sentencepiece.h"

namespace moxie {

/// The bytes of tokenizer.model: SentencePiece's ModelProto (sentencepiece_model.proto), which
/// ParseSentencePieceModel reads back. `unknown_id` is the piece of the unknown type, -1: none.
std::string SerializeSentencePieceModel(const SentencePieceModel& model, int64_t unknown_id);

}  // namespace moxie
