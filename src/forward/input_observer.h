#pragma once

#include <cstdint>
#include <span>

namespace moxie {

/// Which matrices an input goes into.
enum class MatrixRole : uint8_t {
  kAttention,        ///< q, k and v; of latent attention q_a (or q) and kv_a
  kQueries,          ///< q of latent attention with a low rank of its own
  kAttentionOutput,  ///< the attention's output
  kGateUp,           ///< gate and up
  kDown,             ///< down
};

inline constexpr int32_t kDenseExpert = -1;   ///< a dense layer's feed-forward
inline constexpr int32_t kSharedExpert = -2;  ///< the shared expert

struct MatrixPlace {
  int64_t layer = 0;
  MatrixRole role = MatrixRole::kAttention;
  int32_t expert = kDenseExpert;
};

/// Sees the inputs of a layer's matrices, a row for each token that passes through them. Called
/// from the thread that called Forward; rows are valid during the call only.
class InputObserver {
 public:
  virtual ~InputObserver() = default;
  virtual void OnInput(const MatrixPlace& place, std::span<const float> row) = 0;

  /// Consecutive rows of `width`.
  void OnRows(const MatrixPlace& place, const float* rows, int64_t count, int64_t width) {
    for (int64_t r = 0; r < count; ++r)
      OnInput(place, std::span(rows + r * width, static_cast<size_t>(width)));
  }
};

}  // namespace moxie
