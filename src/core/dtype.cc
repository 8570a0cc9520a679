#include "core/dtype.h"

#include <limits>

#include "moxie/result.h"

namespace moxie {
namespace {

constexpr DTypeTraits kTraits[] = {
    {DType::kF32, "f32", 1, 4},
    {DType::kF16, "f16", 1, 2},
    {DType::kQ4_0, "q4_0", 32, 18},
    {DType::kQ4_1, "q4_1", 32, 20},
    {DType::kQ5_0, "q5_0", 32, 22},
    {DType::kQ5_1, "q5_1", 32, 24},
    {DType::kQ8_0, "q8_0", 32, 34},
    {DType::kQ2_K, "q2_k", 256, 84},
    {DType::kQ3_K, "q3_k", 256, 110},
    {DType::kQ4_K, "q4_k", 256, 144},
    {DType::kQ5_K, "q5_k", 256, 176},
    {DType::kQ6_K, "q6_k", 256, 210},
    {DType::kIQ2_XXS, "iq2_xxs", 256, 66},
    {DType::kIQ2_XS, "iq2_xs", 256, 74},
    {DType::kIQ3_XXS, "iq3_xxs", 256, 98},
    {DType::kIQ1_S, "iq1_s", 256, 50},
    {DType::kIQ4_NL, "iq4_nl", 32, 18},
    {DType::kIQ3_S, "iq3_s", 256, 110},
    {DType::kIQ2_S, "iq2_s", 256, 82},
    {DType::kIQ4_XS, "iq4_xs", 256, 136},
    {DType::kI8, "i8", 1, 1},
    {DType::kI16, "i16", 1, 2},
    {DType::kI32, "i32", 1, 4},
    {DType::kI64, "i64", 1, 8},
    {DType::kF64, "f64", 1, 8},
    {DType::kIQ1_M, "iq1_m", 256, 56},
    {DType::kBF16, "bf16", 1, 2},
    {DType::kTQ1_0, "tq1_0", 256, 54},
    {DType::kTQ2_0, "tq2_0", 256, 66},
    {DType::kMXFP4, "mxfp4", 32, 17},
};

const DTypeTraits* Find(uint32_t id) {
  for (const DTypeTraits& traits : kTraits) {
    if (static_cast<uint32_t>(traits.type) == id) return &traits;
  }
  return nullptr;
}

char Lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

}  // namespace

bool IsKnownDType(uint32_t id) { return Find(id) != nullptr; }

const DTypeTraits& TraitsOf(DType type) {
  const DTypeTraits* traits = Find(static_cast<uint32_t>(type));
  MOXIE_CHECK(traits != nullptr);
  return *traits;
}

std::optional<DType> DTypeFromName(std::string_view name) {
  for (const DTypeTraits& traits : kTraits) {
    if (traits.name.size() != name.size()) continue;
    bool same = true;
    for (size_t i = 0; i < name.size(); ++i) same = same && Lower(name[i]) == traits.name[i];
    if (same) return traits.type;
  }
  return std::nullopt;
}

std::optional<int64_t> BytesOf(DType type, int64_t elements) {
  const DTypeTraits& traits = TraitsOf(type);
  if (elements < 0 || elements % traits.block_elements != 0) return std::nullopt;
  const int64_t blocks = elements / traits.block_elements;
  if (blocks > std::numeric_limits<int64_t>::max() / traits.block_bytes) return std::nullopt;
  return blocks * traits.block_bytes;
}

}  // namespace moxie
