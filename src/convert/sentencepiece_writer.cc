#include "convert/sentencepiece_writer.h"

#include <bit>
#include <cstdint>
#include <string_view>

namespace moxie {
namespace {

/// The fields of one protobuf message (protobuf.dev/programming-guides/encoding).
class MessageWriter {
 public:
  void Number(uint32_t field, int64_t value) {
    Varint(uint64_t{field} << 3);
    Varint(static_cast<uint64_t>(value));
  }
  void Float(uint32_t field, float value) {
    Varint(uint64_t{field} << 3 | 5);
    const auto bits = std::bit_cast<uint32_t>(value);
    for (int shift = 0; shift < 32; shift += 8)
      bytes_.push_back(static_cast<char>(bits >> shift & 0xFF));
  }
  void Bytes(uint32_t field, std::string_view value) {
    Varint(uint64_t{field} << 3 | 2);
    Varint(value.size());
    bytes_.append(value);
  }
  const std::string& bytes() const { return bytes_; }

 private:
  void Varint(uint64_t value) {
    for (; value >= 0x80; value >>= 7) bytes_.push_back(static_cast<char>(value | 0x80));
    bytes_.push_back(static_cast<char>(value));
  }

  std::string bytes_;
};

}  // namespace

std::string SerializeSentencePieceModel(const SentencePieceModel& model, int64_t unknown_id) {
  MessageWriter out;
  for (const SentencePieceModel::Piece& piece : model.pieces) {
    MessageWriter message;
    message.Bytes(1, piece.text);
    message.Float(2, piece.score);
    message.Number(3, static_cast<int64_t>(piece.type));
    out.Bytes(1, message.bytes());
  }
  MessageWriter trainer;
  trainer.Number(3, model.unigram ? 1 : 2);
  trainer.Number(4, static_cast<int64_t>(model.pieces.size()));
  trainer.Number(35, model.byte_fallback ? 1 : 0);
  trainer.Number(40, unknown_id);
  trainer.Number(41, model.bos_id);
  trainer.Number(42, model.eos_id);
  trainer.Number(43, -1);
  out.Bytes(2, trainer.bytes());
  MessageWriter normalizer;
  normalizer.Bytes(1, model.chars_map.empty() ? "identity" : "precompiled");
  normalizer.Bytes(2, model.chars_map);
  normalizer.Number(3, model.add_dummy_prefix ? 1 : 0);
  normalizer.Number(4, model.remove_extra_whitespaces ? 1 : 0);
  normalizer.Number(5, model.escape_whitespaces ? 1 : 0);
  out.Bytes(3, normalizer.bytes());
  return out.bytes();
}

}  // namespace moxie
