#include <array>

#include "tokenizer/normalizer.h"

namespace moxie {

namespace {

// The bytes that are printable in Latin-1 stand for themselves, the others follow from U+0100 on.
constexpr bool StandsForItself(uint32_t byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

constexpr std::array<uint16_t, 256> MakeCharacters() {
  std::array<uint16_t, 256> characters = {};
  uint16_t next = 0x100;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    characters[byte] = StandsForItself(byte) ? static_cast<uint16_t>(byte) : next++;
  }
  return characters;
}
constexpr std::array<uint16_t, 256> kCharacters = MakeCharacters();

constexpr std::array<int16_t, 0x144> MakeBytes() {
  std::array<int16_t, 0x144> bytes = {};
  for (int16_t& byte : bytes) byte = -1;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    bytes[kCharacters[byte]] = static_cast<int16_t>(byte);
  }
  return bytes;
}
constexpr std::array<int16_t, 0x144> kBytes = MakeBytes();

}  // namespace

char32_t ByteToCharacter(uint8_t byte) { return kCharacters[byte]; }

std::optional<uint8_t> CharacterToByte(char32_t character) {
  if (character >= kBytes.size() || kBytes[character] < 0) return std::nullopt;
  return static_cast<uint8_t>(kBytes[character]);
}

std::string BytesToCharacters(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size() + bytes.size() / 2);
  for (const char c : bytes) AppendUtf8(kCharacters[static_cast<unsigned char>(c)], &out);
  return out;
}

std::optional<std::string> CharactersToBytes(std::string_view text) {
  std::string bytes;
  for (size_t at = 0; at < text.size();) {
    const DecodedCharacter c = DecodeUtf8(text, at);
    const auto byte = c.valid ? CharacterToByte(c.code_point) : std::nullopt;
    if (!byte) return std::nullopt;
    bytes.push_back(static_cast<char>(*byte));
    at += c.length;
  }
  return bytes;
}

}  // namespace moxie
