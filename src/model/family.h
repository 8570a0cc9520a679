#pragma once

#include <span>
#include <string_view>

#include "model/config.h"
#include "model/settings.h"

namespace moxie {

/// What a family's reader looks at.
struct ConfigSource {
  const Settings& settings;
  const ModelFiles& files;

  bool is_gguf() const { return files.layout == FileLayout::kGguf; }
  bool HasTensor(std::string_view name) const { return files.tensors.Find(name) != nullptr; }
};

/// One model family: what its files call it, what differs from the common ground, and the settings
/// that are its own. A new family is one file with one of these, and a line in AllFamilies.
struct Family {
  std::string_view name;          ///< ModelConfig::family
  std::string_view model_type;    ///< config.json's model_type
  std::string_view architecture;  ///< config.json's architectures, where model_type is absent
  std::string_view gguf;          ///< general.architecture
  bool gguf_interleaved = false;  ///< GGUF holds Q and K rows in interleaved rotary order
  double rope_base = 10000.0;     ///< where the file names none
  /// Folders hold a layer's experts in one tensor as [experts, in, out], with gate and up columns
  /// alternating, or as MXFP4 blocks and scales (gpt-oss).
  bool transposed_experts = false;

  /// Sets the fields that ReadShape (called before) and ReadRope (called after) do not.
  Result<void> (*read)(const ConfigSource& source, ModelConfig& config);
};

/// Every family, in the order in which messages list them.
std::span<const Family* const> AllFamilies();

/// The family of that name (ModelConfig::family), or null.
const Family* FindFamily(std::string_view name);

/// ReadModelConfig for settings that have been read already.
Result<ModelConfig> ReadConfig(const ConfigSource& source);

// What families share. Each reads one group of settings and checks it.

/// Grouped-query attention: heads, kv_heads, head_dim, score_scale, and for a GGUF the biases that
/// it has.
Result<void> ReadAttention(const ConfigSource& source, ModelConfig& config);

/// Every layer's window from `sliding_window`: all layers or none.
Result<void> ReadUniformWindow(const ConfigSource& source, ModelConfig& config);

/// Qwen's windows: only where `use_sliding_window`, by `layer_types`, else those layers for which
/// `slides(layer)` holds.
Result<void> ReadOptionalWindow(const ConfigSource& source, ModelConfig& config,
                                bool (*slides)(int64_t layer, int64_t max_window_layers));

/// Windows by `layer_types`, or a GGUF's sliding_window_pattern, or every other layer from the
/// first.
Result<void> ReadAlternatingWindow(const ConfigSource& source, ModelConfig& config, int64_t window);

/// router.experts, router.used, expert_ffn_dim (a folder's key for it is `ffn`), and every layer
/// sparse, in a GGUF those that have a router.
Result<void> ReadExperts(const ConfigSource& source, const Key& ffn, ModelConfig& config);

/// Makes layers dense by `mlp_only_layers` and `decoder_sparse_step`.
Result<void> ReadDenseLayers(const ConfigSource& source, ModelConfig& config);

/// config.rope, for heads whose rotated part has `dims` dimensions.
Result<void> ReadRope(const ConfigSource& source, const Family& family, int64_t dims,
                      ModelConfig& config);

/// YaRN's attention scaling of a factor (arXiv:2309.00071, section 3.4, with DeepSeek's mscale).
double YarnMscale(double factor, double mscale);

/// Largest sizes that are believed. A model of all of them has fewer than 2^63 parameters, so sums
/// and products of sizes that were read need no further checks.
inline constexpr int64_t kMaxLayers = 1024;
inline constexpr int64_t kMaxDim = 1 << 18;
inline constexpr int64_t kMaxFfnDim = 1 << 20;
inline constexpr int64_t kMaxHeads = 1 << 14;
inline constexpr int64_t kMaxHeadDim = 1 << 16;
inline constexpr int64_t kMaxExperts = 1 << 12;
inline constexpr int64_t kMaxVocab = 1 << 26;
inline constexpr int64_t kMaxContext = int64_t{1} << 30;

}  // namespace moxie
