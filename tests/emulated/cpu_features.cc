#include "core/cpu_features.h"

namespace moxie {

/// In the place of the library's: whatever is emulated can be used.
const CpuFeatures& UsableCpuFeatures() {
  static constexpr CpuFeatures kAll = {
      .avx2 = true, .avx512 = true, .avx512_bf16 = true, .amx = true};
  return kAll;
}

}  // namespace moxie
