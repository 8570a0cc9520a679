// Encodes and decodes many texts in one process, for tests that compare with other libraries.
//
// usage: tokenizer_tool PATH
// stdin: requests, each two little-endian uint32 (flags, size) and `size` bytes. Flags: 1 add
// special tokens, 2 parse them, 4 the bytes are ids (int32) to decode, 8 leaving special ones out.
// stdout: for each request a uint32 size and so many bytes (ids as int32, or the text).
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "moxie/tokenizer.h"

namespace {

bool Read(void* data, size_t size) { return std::fread(data, 1, size, stdin) == size; }

void Answer(const void* data, size_t size) {
  const auto length = static_cast<uint32_t>(size);
  std::fwrite(&length, 1, sizeof length, stdout);
  std::fwrite(data, 1, size, stdout);
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  const auto tokenizer = moxie::OpenTokenizer(argv[1]);
  if (!tokenizer) {
    std::fprintf(stderr, "%s\n", tokenizer.error().message.c_str());
    return 1;
  }
  uint32_t header[2];
  std::string payload;
  while (Read(header, sizeof header)) {
    payload.resize(header[1]);
    if (!Read(payload.data(), payload.size())) return 1;
    if ((header[0] & 4) != 0) {
      std::vector<moxie::TokenId> ids(payload.size() / sizeof(moxie::TokenId));
      std::copy_n(payload.data(), ids.size() * sizeof ids[0], reinterpret_cast<char*>(ids.data()));
      const std::string text = (*tokenizer)->Decode(ids, (header[0] & 8) != 0);
      Answer(text.data(), text.size());
    } else {
      const auto ids = (*tokenizer)
                           ->Encode(payload, {.add_special = (header[0] & 1) != 0,
                                              .parse_special = (header[0] & 2) != 0});
      Answer(ids.data(), ids.size() * sizeof(moxie::TokenId));
    }
  }
  return 0;
}
