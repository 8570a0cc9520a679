#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace moxie {

/// The element types of tensors. The numbers are GGUF's type ids (ggml.h, enum ggml_type),
/// so a file's id converts by a cast after IsKnownDType.
enum class DType : uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ2_K = 10,
  kQ3_K = 11,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kIQ2_XXS = 16,
  kIQ2_XS = 17,
  kIQ3_XXS = 18,
  kIQ1_S = 19,
  kIQ4_NL = 20,
  kIQ3_S = 21,
  kIQ2_S = 22,
  kIQ4_XS = 23,
  kI8 = 24,
  kI16 = 25,
  kI32 = 26,
  kI64 = 27,
  kF64 = 28,
  kIQ1_M = 29,
  kBF16 = 30,
  kTQ1_0 = 34,
  kTQ2_0 = 35,
  kMXFP4 = 39,
};

/// How elements of a type are stored: `block_bytes` bytes hold `block_elements` elements.
struct DTypeTraits {
  DType type;
  std::string_view name;   ///< lower case, as on the command line: "q4_k"
  int32_t block_elements;  ///< 1, 32 or 256
  int32_t block_bytes;
};

/// Whether `id` is one of DType's values.
bool IsKnownDType(uint32_t id);

/// The traits of a known type. Thread-safe, returns a reference to static storage.
const DTypeTraits& TraitsOf(DType type);

inline std::string_view NameOf(DType type) { return TraitsOf(type).name; }

/// The type of that name (case-insensitive), or nothing.
std::optional<DType> DTypeFromName(std::string_view name);

/// Bytes of `elements` consecutive elements; `elements` must be a multiple of block_elements.
/// Nothing if it is not, if it is negative, or if the product overflows int64.
std::optional<int64_t> BytesOf(DType type, int64_t elements);

}  // namespace moxie
