#include "quant/dequantize.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <limits>
#include <set>
#include <string>
#include <vector>

#include "support/source_dir.h"

namespace moxie {
namespace {

// The hash of tests/golden/make_quant_blocks.py: 64-bit FNV-1a over the little-endian bytes of the
// float32 values, every NaN taken as 0x7fc00000.
uint64_t HashOf(const std::vector<float>& values) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (float value : values) {
    const uint32_t bits = std::isnan(value) ? 0x7fc00000u : std::bit_cast<uint32_t>(value);
    for (int k = 0; k < 4; ++k) hash = (hash ^ ((bits >> (8 * k)) & 0xffu)) * 0x100000001b3u;
  }
  return hash;
}

uint32_t ReadU32(std::istream& in) {
  uint32_t value = 0;
  in.read(reinterpret_cast<char*>(&value), sizeof(value));
  return value;
}

// The fixture: for each type its id, the number of samples n, n samples (one block, or 32
// elements where blocks are smaller), n hashes. MOXIE_QUANT_BLOCKS may name a larger one made by
// the same script.
TEST(Dequantize, EqualsTheReferencePackageBitForBit) {
  const char* set = std::getenv("MOXIE_QUANT_BLOCKS");
  std::ifstream in(set != nullptr ? set : SourceDir() / "tests/golden/quant/blocks.bin",
                   std::ios::binary);
  ASSERT_TRUE(in.is_open());
  std::set<DType> seen;
  while (in.peek() != std::ifstream::traits_type::eof()) {
    const uint32_t id = ReadU32(in);
    const uint32_t samples = ReadU32(in);
    ASSERT_TRUE(IsKnownDType(id));
    const DTypeTraits& traits = TraitsOf(static_cast<DType>(id));
    SCOPED_TRACE(traits.name);
    const int64_t elements = std::max(32, traits.block_elements);
    const size_t bytes = static_cast<size_t>(*BytesOf(traits.type, elements));
    std::vector<char> data(bytes * samples);
    std::vector<uint64_t> hashes(samples);
    in.read(data.data(), static_cast<std::streamsize>(data.size()));
    in.read(reinterpret_cast<char*>(hashes.data()), static_cast<std::streamsize>(8 * samples));
    ASSERT_TRUE(in.good());
    seen.insert(traits.type);
    std::vector<float> out(static_cast<size_t>(elements));
    std::vector<std::byte> unaligned(bytes + 1);
    std::vector<uint32_t> wrong;
    for (uint32_t s = 0; s < samples; ++s) {
      std::memcpy(unaligned.data() + 1, data.data() + s * bytes, bytes);
      Dequantize(traits.type, unaligned.data() + 1, elements, out.data());
      if (HashOf(out) != hashes[s]) wrong.push_back(s);
    }
    EXPECT_THAT(wrong, testing::IsEmpty()) << "of " << samples << " samples";
  }
  EXPECT_EQ(seen.size(), 25u);  // Every type the package decodes: all but i8 .. i64 and f64.
}

TEST(Dequantize, SeveralBlocksAreTheirSequence) {
  const std::vector<std::byte> bytes(3 * 144, std::byte{0x35});
  std::vector<float> one(256);
  std::vector<float> three(768);
  Dequantize(DType::kQ4_K, bytes.data(), 256, one.data());
  Dequantize(DType::kQ4_K, bytes.data(), 768, three.data());
  for (size_t i = 0; i < three.size(); ++i) ASSERT_EQ(three[i], one[i % 256]);
}

template <class T>
void ExpectByValue(DType type, const std::vector<T>& values) {
  std::vector<float> out(values.size());
  Dequantize(type, reinterpret_cast<const std::byte*>(values.data()),
             static_cast<int64_t>(values.size()), out.data());
  for (size_t i = 0; i < values.size(); ++i) {
    EXPECT_EQ(out[i], static_cast<float>(values[i])) << NameOf(type) << " element " << i;
  }
}

TEST(Dequantize, PlainNumbersConvertByValue) {
  ExpectByValue<int8_t>(DType::kI8, {-128, -1, 0, 127});
  ExpectByValue<int16_t>(DType::kI16, {-32768, 12345});
  ExpectByValue<int32_t>(DType::kI32, {-2147483647 - 1, 16777217, 33554435});
  ExpectByValue<int64_t>(DType::kI64, {std::numeric_limits<int64_t>::min(), 1, 1LL << 40});
  ExpectByValue<double>(DType::kF64, {0.1, -0.0, 1e-42, std::numeric_limits<double>::infinity()});
}

// Any bytes decode without undefined behaviour; the sanitizers look on.
TEST(Dequantize, TakesAnyBytes) {
  std::vector<float> out(256);
  for (uint32_t id = 0; id < 64; ++id) {
    if (!IsKnownDType(id)) continue;
    const auto type = static_cast<DType>(id);
    for (int fill = 0; fill < 256; ++fill) {
      const std::vector<std::byte> bytes(static_cast<size_t>(*BytesOf(type, 256)),
                                         static_cast<std::byte>(fill));
      Dequantize(type, bytes.data(), 256, out.data());
    }
  }
}

}  // namespace
}  // namespace moxie
