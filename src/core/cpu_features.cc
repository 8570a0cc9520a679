#include "core/cpu_features.h"

#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#endif

namespace moxie {
namespace {

#if defined(__x86_64__)

struct Registers {
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
};

/// One CPUID leaf; zeros where the processor has no such leaf.
Registers Cpuid(uint32_t leaf, uint32_t subleaf) {
  Registers r;
  if (__get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx) == 0) return {};
  return r;
}

bool Bit(uint32_t word, int bit) { return ((word >> bit) & 1u) != 0; }

/// The register states that the operating system saves (XGETBV, register 0).
uint64_t SavedStates() {
  uint32_t low = 0;
  uint32_t high = 0;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (static_cast<uint64_t>(high) << 32) | low;
}

/// Whether the kernel lets this process use the tile registers.
bool TilesPermitted() {
#if defined(__linux__) && defined(SYS_arch_prctl)
  constexpr long kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr long kTileData = 18;               // XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

bool MadeByAmd() {
  const Registers r = Cpuid(0, 0);
  const uint32_t name[] = {r.ebx, r.edx, r.ecx};
  return std::memcmp(name, "AuthenticAMD", sizeof(name)) == 0 ||
         std::memcmp(name, "HygonGenuine", sizeof(name)) == 0;
}

/// CPUID's family, base and extended: 25 is Zen 3 and Zen 4, 26 Zen 5.
uint32_t Family(uint32_t signature) {
  return ((signature >> 8) & 0xf) + ((signature >> 20) & 0xff);
}

CpuFeatures Detect() {
  CpuFeatures features;
  const Registers leaf1 = Cpuid(1, 0);
  features.reads_ahead = MadeByAmd() && Family(leaf1.eax) <= 25;
  const bool fma = Bit(leaf1.ecx, 12);
  const bool system_saves = Bit(leaf1.ecx, 27);  // OSXSAVE
  const bool avx = Bit(leaf1.ecx, 28);
  const bool f16c = Bit(leaf1.ecx, 29);
  if (!system_saves || !avx) return features;

  const uint64_t saved = SavedStates();
  const auto saves = [saved](uint64_t states) { return (saved & states) == states; };
  constexpr uint64_t kYmm = 0x6;        // XMM and YMM
  constexpr uint64_t kZmm = 0xe6;       // and the mask registers, ZMM0-15's upper halves, ZMM16-31
  constexpr uint64_t kTiles = 0x60000;  // tile configuration and tile data

  const Registers leaf7 = Cpuid(7, 0);
  const Registers leaf7_1 = Cpuid(7, 1);
  features.avx2 = saves(kYmm) && Bit(leaf7.ebx, 5) && fma && f16c;
  const bool f_dq_bw_vl =
      Bit(leaf7.ebx, 16) && Bit(leaf7.ebx, 17) && Bit(leaf7.ebx, 30) && Bit(leaf7.ebx, 31);
  const bool vnni = Bit(leaf7.ecx, 11);
  features.avx512 = features.avx2 && saves(kZmm) && f_dq_bw_vl && vnni;
  features.avx512_bf16 = features.avx512 && Bit(leaf7_1.eax, 5);
  const bool tiles = Bit(leaf7.edx, 24) && Bit(leaf7.edx, 22) && Bit(leaf7.edx, 25);
  features.amx = features.avx512_bf16 && tiles && saves(kTiles) && TilesPermitted();
  return features;
}

#elif defined(__aarch64__)

CpuFeatures Detect() {
  CpuFeatures features;
  constexpr unsigned long kDotProduct = 1ul << 20;  // HWCAP_ASIMDDP
  constexpr unsigned long kInt8Matrix = 1ul << 13;  // HWCAP2_I8MM
  features.neon_dot = (getauxval(AT_HWCAP) & kDotProduct) != 0;
  features.neon_i8mm = features.neon_dot && (getauxval(AT_HWCAP2) & kInt8Matrix) != 0;
  return features;
}

#else

CpuFeatures Detect() { return {}; }

#endif

}  // namespace

const CpuFeatures& UsableCpuFeatures() {
  static const CpuFeatures kFeatures = Detect();
  return kFeatures;
}

}  // namespace moxie
