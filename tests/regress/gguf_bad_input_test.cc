// GGUF files that broke other engines (CVE-2024-23605, CVE-2024-21802, CVE-2025-53630,
// CVE-2026-27940, CVE-2026-33298, CVE-2026-7482 and their like), or might: each is refused with a
// sentence that begins with the file's name.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <chrono>
#include <string>
#include <vector>

#include "formats/gguf.h"
#include "support/bytes.h"

namespace moxie {
namespace {

using testing::Bytes;
using testing::GgufStart;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr uint32_t kF32 = 0, kQ8_0 = 8;
constexpr uint32_t kU32Value = 4, kStringValue = 8, kArrayValue = 9;
constexpr uint64_t kHuge = uint64_t{1} << 63;

struct Tensor {
  std::string name = "w";
  std::vector<uint64_t> dims = {4};
  uint32_t type = kF32;
  uint64_t offset = 0;
};

/// A file of one key-value (general.alignment), these tensors, and so many bytes of data.
Bytes WithTensors(const std::vector<Tensor>& tensors, size_t data, uint32_t alignment = 32) {
  Bytes file = GgufStart(tensors.size(), 1);
  file.Text("general.alignment").Add(kU32Value).Add(alignment);
  for (const Tensor& tensor : tensors) {
    file.Text(tensor.name).Add(static_cast<uint32_t>(tensor.dims.size()));
    for (const uint64_t size : tensor.dims) file.Add(size);
    file.Add(tensor.type).Add(tensor.offset);
  }
  file.Pad(32);
  return file.Raw(std::string(data, 'x'));
}

/// A file whose only key "k" has an array of that type and claimed length, and these bytes.
Bytes WithArray(uint32_t type, uint64_t count, std::string_view content) {
  Bytes file = GgufStart(0, 1);
  return file.Text("k").Add(kArrayValue).Add(type).Add(count).Raw(content);
}

struct Case {
  const char* name;
  Bytes file;
  const char* message;
};

std::vector<Case> BrokenStarts() {
  Bytes big_endian;
  big_endian.Raw("GGUF").Add<uint32_t>(0x03000000).Raw(std::string(16, '\0'));
  Bytes wrong;
  wrong.Raw("GGML").Raw(std::string(32, '\0'));
  return {
      {"empty file", Bytes(), "is empty"},
      {"another format", wrong, "does not begin with \"GGUF\""},
      {"version 0", GgufStart(0, 0, 0), "version 0, but must be of version 2 or 3"},
      {"version 1", GgufStart(0, 0, 1), "version 1, but must be of version 2 or 3"},
      {"version 4", GgufStart(0, 0, 4), "version 4, but must be of version 2 or 3"},
      {"big-endian", big_endian, "is a big-endian GGUF"},
      {"huge n_tensors", GgufStart(kHuge, 0), "claims 9223372036854775808 tensors, but at most 0"},
      {"all ones n_tensors", GgufStart(~uint64_t{0}, 0), "tensors, but at most 0"},
      {"huge n_kv", GgufStart(0, kHuge), "claims 9223372036854775808 key-values, but at most 0"},
      {"n_kv that wraps", GgufStart(0, kHuge / 8), "key-values, but at most 0"},
  };
}

std::vector<Case> BrokenKeyValues() {
  Bytes long_key = GgufStart(0, 1);
  long_key.Add<uint64_t>(1000).Raw("0123456789");
  Bytes wrapping_key = GgufStart(0, 1);
  wrapping_key.Add<uint64_t>(~uint64_t{0}).Raw("0123456789");
  Bytes long_value = GgufStart(0, 1);
  long_value.Text("k").Add(kStringValue).Add<uint64_t>(uint64_t{1} << 40).Raw("abc");
  Bytes type = GgufStart(0, 1);
  type.Text("k").Add<uint32_t>(13).Add<uint64_t>(0);
  Bytes boolean = GgufStart(0, 1);
  boolean.Text("k").Add<uint32_t>(7).Add<uint8_t>(2);
  Bytes twice = GgufStart(0, 2);
  twice.Text("k").Add(kU32Value).Add<uint32_t>(1).Text("k").Add(kU32Value).Add<uint32_t>(1);
  Bytes nested = GgufStart(0, 1);
  nested.Text("k").Add(kArrayValue);
  for (int i = 0; i < 100'000; ++i) nested.Add(kArrayValue).Add<uint64_t>(1);
  return {
      {"key longer than the file", long_key, "a string of 1000 bytes in a key, but at most 10"},
      {"key whose end wraps", wrapping_key, "a string of 18446744073709551615 bytes in a key"},
      {"value longer than the file", long_value, "a string of 1099511627776 bytes"},
      {"value type", type, "a value of type 13, but types are 0..12 (key k)"},
      {"bool of 2", boolean, "a bool of value 2, but it must be 0 or 1 (key k)"},
      {"key twice", twice, "has a key twice (key k)"},
      {"arrays in arrays", nested, "has an array of arrays"},
      {"array type", WithArray(77, 1, "abcd"), "an array of type 77, but types are 0..12"},
      {"array of 2^63", WithArray(0, kHuge, "abcd"), "but at most 4 are possible (key k)"},
      {"array whose bytes wrap", WithArray(10, (~uint64_t{0}) / 8 + 2, std::string(64, 'x')),
       "but at most 8 are possible"},
      {"strings of 2^40", WithArray(kStringValue, uint64_t{1} << 40, std::string(64, '\0')),
       "but at most 8 are possible"},
      {"string in an array", WithArray(kStringValue, 1, "\xff\xff\xff\xff\xff\xff\xff\x7f"),
       "a string of 9223372036854775807 bytes in an array, but at most 0"},
  };
}

std::vector<Case> BrokenTensors() {
  const Tensor overlapping{.name = "v", .offset = 0};
  return {
      {"alignment 0", WithTensors({{}}, 64, 0), "general.alignment is 0, but must be a power"},
      {"alignment 3", WithTensors({{}}, 64, 3), "general.alignment is 3, but must be a power"},
      {"alignment 2^31", WithTensors({{}}, 64, 0x80000000u), "general.alignment is 2147483648"},
      {"33 dimensions", WithTensors({{.dims = std::vector<uint64_t>(33, 1)}}, 64),
       "a tensor of 33 dimensions, but at most 8 are read (tensor w)"},
      {"a dimension of 0", WithTensors({{.dims = {4, 0}}}, 64),
       "tensor w has a dimension of 0, but it must be at least 1"},
      {"a dimension of -1", WithTensors({{.dims = {~uint64_t{0}}}}, 64), "a dimension of -1"},
      {"a product of 2^64", WithTensors({{.dims = {1ull << 32, 1ull << 32}}}, 64),
       "product is not below 2^63"},
      {"a product of 2^64 + 16", WithTensors({{.dims = {(1ull << 60) + 1, 16}}}, 64),
       "product is not below 2^63"},
      {"bytes that overflow", WithTensors({{.dims = {1ull << 62}}}, 64),
       "bytes are not below 2^63"},
      {"half a block", WithTensors({{.dims = {33}, .type = kQ8_0}}, 64),
       "has rows of 33 elements, but q8_0 stores blocks of 32"},
      {"rows of half a block", WithTensors({{.dims = {16, 2}, .type = kQ8_0}}, 64),
       "has rows of 16 elements"},
      {"type id out of range", WithTensors({{.type = 4000}}, 64), "of type id 4000, which moxie"},
      {"a type that was removed", WithTensors({{.type = 4}}, 64), "of type id 4, which moxie"},
      {"beyond the file", WithTensors({{.dims = {17}}}, 64),
       "of 68 bytes at offset 0, but the file has only 64 bytes"},
      {"offset beyond the file", WithTensors({{.offset = 1u << 20}}, 64), "at offset 1048576"},
      {"offset that wraps", WithTensors({{.offset = ~uint64_t{0} - 31}}, 64),
       "at offset 18446744073709551584"},
      {"offset not aligned", WithTensors({{.offset = 8}}, 64), "must be multiples of 32"},
      {"two of one name", WithTensors({{}, {.offset = 32}}, 64), "two tensors named w"},
      {"overlap", WithTensors({{.dims = {16}}, overlapping}, 64), "tensors that overlap"},
      {"no data at all", WithTensors({{}}, 0), "only 0 bytes of tensor data"},
      {"control characters", WithTensors({{.name = "\n\x1b[2J", .type = 99}}, 64),
       "(tensor \\x0a\\x1b[2J)"},
  };
}

void ExpectRefused(const std::vector<Case>& cases) {
  for (const Case& each : cases) {
    SCOPED_TRACE(each.name);
    const auto header = ParseGguf(each.file.span(), "m.gguf");
    ASSERT_FALSE(header.has_value());
    EXPECT_THAT(header.error().message, StartsWith("m.gguf: "));
    EXPECT_THAT(header.error().message, HasSubstr(each.message));
    EXPECT_EQ(header.error().message.find('\n'), std::string::npos);
    EXPECT_LT(header.error().message.size(), 400u);
  }
}

TEST(GgufBadInputTest, Starts) { ExpectRefused(BrokenStarts()); }
TEST(GgufBadInputTest, KeyValues) { ExpectRefused(BrokenKeyValues()); }
TEST(GgufBadInputTest, Tensors) { ExpectRefused(BrokenTensors()); }

// The builder above makes good files where nothing is bad.
TEST(GgufBadInputTest, TheSameWithoutTheFaultIsRead) {
  EXPECT_TRUE(ParseGguf(WithTensors({{}}, 64).span(), "m.gguf"));
  EXPECT_TRUE(ParseGguf(WithTensors({{}, {.name = "v", .offset = 32}}, 64).span(), "m.gguf"));
  EXPECT_TRUE(ParseGguf(WithArray(0, 4, "abcd").span(), "m.gguf"));
}

TEST(GgufBadInputTest, AFileCutAnywhereIsRefused) {
  Bytes file = GgufStart(2, 3);
  file.Text("general.architecture").Add(kStringValue).Text("llama");
  file.Text("x").Add(kU32Value).Add<uint32_t>(7);
  file.Text("t").Add(kArrayValue).Add(kStringValue).Add<uint64_t>(2).Text("a").Text("bc");
  file.Text("w").Add<uint32_t>(1).Add<uint64_t>(4).Add(kF32).Add<uint64_t>(0);
  file.Text("v").Add<uint32_t>(1).Add<uint64_t>(32).Add(kQ8_0).Add<uint64_t>(32);
  file.Pad(32).Raw(std::string(32 + 34, 'x'));
  ASSERT_TRUE(ParseGguf(file.span(), "m.gguf"));
  for (size_t length = 0; length < file.size(); ++length) {
    const auto header = ParseGguf(file.span().first(length), "m.gguf");
    ASSERT_FALSE(header.has_value()) << length;
    EXPECT_THAT(header.error().message, StartsWith("m.gguf: ")) << length;
  }
}

// Every value that a header's 32-bit fields can be lied about with, at every place.
TEST(GgufBadInputTest, AnyFourBytesMayLie) {
  const Bytes file =
      WithTensors({{}, {.name = "v", .dims = {32}, .type = kQ8_0, .offset = 32}}, 66);
  for (const uint32_t lie : {0u, 1u, 0x7fffffffu, 0x80000000u, 0xffffffffu}) {
    for (size_t at = 0; at + 4 <= file.size(); ++at) {
      std::string changed = file.str();
      std::memcpy(changed.data() + at, &lie, sizeof lie);
      const auto header = ParseGguf(std::as_bytes(std::span(changed)), "m.gguf");
      if (!header) continue;
      for (const TensorInfo& tensor : header->tensors) {
        ASSERT_LE(tensor.offset, changed.size());
        ASSERT_LE(tensor.bytes, changed.size() - tensor.offset);
      }
    }
  }
}

// A large file of nothing but lies takes neither the time nor the memory that it asks for.
TEST(GgufBadInputTest, LargeFilesStayWithinTheLimits) {
  constexpr size_t kSize = size_t{160} << 20;
  Bytes empty_strings = GgufStart(0, 1);
  empty_strings.Text("k").Add(kArrayValue).Add(kStringValue).Add<uint64_t>(kSize / 8);
  std::string content = empty_strings.str();
  content.resize(kSize, '\0');
  const auto begin = std::chrono::steady_clock::now();
  const auto header = ParseGguf(std::as_bytes(std::span(content)), "m.gguf");
  ASSERT_FALSE(header.has_value());
  EXPECT_THAT(header.error().message, HasSubstr("an array of 20971520 elements, but at most"));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(5));
  struct rusage usage {};
  ASSERT_EQ(getrusage(RUSAGE_SELF, &usage), 0);
  EXPECT_LT(usage.ru_maxrss, 1 << 20) << "KiB";
}

}  // namespace
}  // namespace moxie
