// The emulated tiles do by a bit what the processor's do, where there are any.
#if defined(__x86_64__)
#include "emulated/kernels/x86/tiles.h"

#include <gtest/gtest.h>

#include <array>
#include <random>

#include "core/cpu_features.h"

namespace moxie {
namespace {

struct Tile {
  alignas(64) std::array<uint8_t, 1024> bytes;
};

/// Full tiles, palette 1.
std::array<uint8_t, 64> FullTiles() {
  std::array<uint8_t, 64> configuration = {1};
  for (size_t tile = 0; tile < 8; ++tile) {
    configuration[16 + 2 * tile] = 64;
    configuration[48 + tile] = 16;
  }
  return configuration;
}

// The assembler needs no flags for these.
#define MOXIE_ON_TILES(product)                                                          \
  asm volatile(                                                                          \
      "ldtilecfg (%0)\n tileloadd (%1,%4,1), %%tmm0\n tileloadd (%2,%4,1), %%tmm1\n"     \
      "tileloadd (%3,%4,1), %%tmm2\n" product                                            \
      " %%tmm2, %%tmm1, %%tmm0\n"                                                        \
      "tilestored %%tmm0, (%1,%4,1)\n tilerelease\n" ::"r"(FullTiles().data()),          \
      "r"(sums.bytes.data()), "r"(a.bytes.data()), "r"(b.bytes.data()), "r"(int64_t{64}) \
      : "memory")

/// Bytes at random; as bfloat16 numbers of magnitudes around 1 where `exponents` are few.
Tile RandomTile(std::mt19937& random, bool is_bfloat16, uint32_t exponents) {
  Tile tile;
  for (size_t i = 0; i < tile.bytes.size(); i += 2) {
    auto bits = static_cast<uint16_t>(random());
    if (is_bfloat16) {
      const uint32_t offset = static_cast<uint32_t>(random()) % exponents;
      const uint32_t exponent = 127 - exponents / 2 + offset;
      bits = static_cast<uint16_t>((bits & 0x807fu) | exponent << 7);
    }
    std::memcpy(tile.bytes.data() + i, &bits, 2);
  }
  return tile;
}

Tile RandomSums(std::mt19937& random) {
  Tile tile;
  for (size_t i = 0; i < tile.bytes.size(); i += 4) {
    const float value = std::normal_distribution<float>(0, 10)(random);
    std::memcpy(tile.bytes.data() + i, &value, 4);
  }
  return tile;
}

TEST(EmulatedTiles, MultiplyAsTheProcessorDoes) {
  if (!UsableCpuFeatures().amx) GTEST_SKIP() << "this machine lacks AMX";
  std::mt19937 random(3);
  auto& emulated = emulated::Tiles::OfThread();
  const auto configuration = FullTiles();
  for (int i = 0; i < 200; ++i) {
    for (const bool is_bfloat16 : {true, false}) {
      // Now and then so far apart that products are subnormal or infinite.
      const uint32_t exponents = i % 4 == 3 ? 250 : 12;
      Tile sums = RandomSums(random);
      const Tile a = RandomTile(random, is_bfloat16, exponents);
      const Tile b = RandomTile(random, is_bfloat16, exponents);
      emulated.Configure(configuration.data());
      emulated.Load(0, sums.bytes.data(), 64);
      emulated.Load(1, a.bytes.data(), 64);
      emulated.Load(2, b.bytes.data(), 64);
      if (is_bfloat16) {
        emulated.MultiplyBfloat16(0, 1, 2);
        MOXIE_ON_TILES("tdpbf16ps");
      } else {
        emulated.MultiplySignedUnsigned(0, 1, 2);
        MOXIE_ON_TILES("tdpbsud");
      }
      Tile want;
      emulated.Store(0, want.bytes.data(), 64);
      for (size_t at = 0; at < want.bytes.size(); at += 4) {
        uint32_t expected = 0, got = 0;
        std::memcpy(&expected, want.bytes.data() + at, 4);
        std::memcpy(&got, sums.bytes.data() + at, 4);
        const auto is_nan = [](uint32_t bits) { return (bits & 0x7fffffffu) > 0x7f800000u; };
        if (is_bfloat16 && is_nan(expected) && is_nan(got)) continue;
        ASSERT_EQ(got, expected) << "round " << i << " byte " << at << " of bfloat16 "
                                 << is_bfloat16;
      }
    }
  }
}

}  // namespace
}  // namespace moxie

#endif
