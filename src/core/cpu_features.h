#pragma once

namespace moxie {

/// What this processor and operating system let this process use: a listed instruction set whose
/// registers the system does not save, or whose use the kernel refuses, is not usable.
struct CpuFeatures {
  // x86-64
  bool avx2 = false;         ///< AVX2, FMA and F16C
  bool avx512 = false;       ///< AVX-512 F, BW, DQ, VL and VNNI, with FMA and F16C
  bool avx512_bf16 = false;  ///< that and its BF16 extension
  /// AMX tiles with int8 and bfloat16 products, the kernel's permission to use them, and AVX-512 as
  /// above with BF16
  bool amx = false;
  /// The processor itself reads a plain stream ahead as fast as memory gives it (AMD's up to Zen
  /// 4), so that asking for it takes misses that the first-level cache could use.
  bool reads_ahead = false;
  // aarch64
  bool neon_dot = false;   ///< the int8 dot product of Armv8.2
  bool neon_i8mm = false;  ///< the int8 matrix product of Armv8.6, and that
};

/// Asked once and remembered; for AMX this asks the kernel for the process's permission
/// (arch_prctl, Linux's Documentation/arch/x86/xstate.rst). Thread-safe.
const CpuFeatures& UsableCpuFeatures();

}  // namespace moxie
