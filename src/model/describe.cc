#include "model/describe.h"

#include <algorithm>
#include <map>
#include <optional>
#include <string_view>
#include <utility>

#include "model/settings.h"

namespace moxie {
namespace {

int64_t AttentionParameters(const ModelConfig& config) {
  const AttentionConfig& a = config.attention;
  const LatentConfig& latent = a.latent;
  if (latent.kv_rank > 0) {
    const int64_t q_rows = a.heads * a.head_dim;
    const int64_t q =
        latent.q_rank > 0 ? latent.q_rank * (config.dim + q_rows + 1) : config.dim * q_rows;
    const int64_t kv_a = (latent.kv_rank + latent.rope_dim) * config.dim + latent.kv_rank;
    const int64_t kv_b = a.heads * (latent.nope_dim + latent.value_dim) * latent.kv_rank;
    return q + kv_a + kv_b + a.heads * latent.value_dim * config.dim;
  }
  const int64_t q_rows = a.heads * a.head_dim;
  const int64_t kv_rows = a.kv_heads * a.head_dim;
  int64_t count = 2 * q_rows * config.dim + 2 * kv_rows * config.dim;
  if (a.qkv_bias) count += q_rows + 2 * kv_rows;
  if (a.output_bias) count += config.dim;
  if (a.qk_norm == QkNorm::kPerHead) count += 2 * a.head_dim;
  if (a.qk_norm == QkNorm::kWhole) count += q_rows + kv_rows;
  return a.sinks ? count + a.heads : count;
}

int64_t FeedForwardParameters(int64_t dim, int64_t ffn, bool bias) {
  return 3 * dim * ffn + (bias ? 2 * ffn + dim : 0);
}

/// Of a sparse layer with `experts` experts.
int64_t MixtureParameters(const ModelConfig& config, int64_t experts) {
  const RouterConfig& router = config.router;
  int64_t count = router.experts * (config.dim + router.logit_bias + router.selection_bias);
  int64_t expert = FeedForwardParameters(config.dim, config.expert_ffn_dim, config.expert_bias);
  if (!config.experts_gated) expert -= config.dim * config.expert_ffn_dim;
  count += experts * expert;
  if (config.shared_expert != SharedExpert::kNone) {
    count += FeedForwardParameters(config.dim, config.shared_ffn_dim, false);
  }
  if (config.shared_expert == SharedExpert::kSigmoidGated) count += config.dim;
  return count;
}

std::string_view NameOfLayout(FileLayout layout) {
  switch (layout) {
    case FileLayout::kGguf:
      return "gguf";
    case FileLayout::kConsolidated:
      return "consolidated";
    case FileLayout::kHuggingFace:
      break;
  }
  return "huggingface";
}

Result<void> DescribeGgufTexts(const GgufMetadata& metadata, ModelSummary& out) {
  MOXIE_TRY_ASSIGN(const auto model, metadata.Text("tokenizer.ggml.model"));
  MOXIE_TRY_ASSIGN(const auto pre, metadata.Text("tokenizer.ggml.pre"));
  MOXIE_TRY_ASSIGN(const auto chat, metadata.Text("tokenizer.chat_template"));
  if (model) out.tokenizer = *model;
  if (model && pre) out.tokenizer.append(" (").append(*pre).append(")");
  out.has_chat_template = chat.has_value();
  return {};
}

Result<void> DescribeFolderTexts(const ModelFiles& files, ModelSummary& out) {
  constexpr std::string_view kTokenizers[] = {"tokenizer.json", "tekken.json", "tokenizer.model",
                                              "tokenizer.model.v3", "tokenizer.model.v2"};
  for (const std::string_view name : kTokenizers) {
    std::error_code error;
    if (out.tokenizer.empty() && std::filesystem::exists(files.path / name, error)) {
      out.tokenizer = name;
    }
  }
  MOXIE_TRY_ASSIGN(const auto chat, files.ReadCompanion("chat_template.jinja"));
  out.has_chat_template = chat.has_value();
  constexpr std::string_view kConfig = "tokenizer_config.json";
  MOXIE_TRY_ASSIGN(const auto text, files.ReadCompanion(kConfig));
  if (!text || out.has_chat_template) return {};
  MOXIE_TRY_ASSIGN(const Settings settings,
                   Settings::FromJson(*text, std::string(kConfig), FileLayout::kHuggingFace));
  out.has_chat_template = settings.Has(Key{{"chat_template"}});
  return {};
}

}  // namespace

ParameterCount CountParameters(const ModelConfig& config) {
  ParameterCount count;
  const int64_t embeddings = config.vocab_size * config.dim * (config.tied_embeddings ? 1 : 2);
  count.total = count.active = embeddings + config.dim;
  const int64_t norms = config.dim * (config.post_norms ? 4 : 2);
  const int64_t attention = AttentionParameters(config);
  for (const LayerConfig& layer : config.layers) {
    count.total += norms + attention;
    count.active += norms + attention;
    if (layer.sparse) {
      count.total += MixtureParameters(config, config.router.experts);
      count.active += MixtureParameters(config, config.router.used);
    } else {
      const int64_t dense = FeedForwardParameters(config.dim, config.ffn_dim, config.ffn_bias);
      count.total += dense;
      count.active += dense;
    }
  }
  return count;
}

Result<ModelSummary> SummariseModel(const ModelFiles& files, const ModelConfig& config) {
  ModelSummary out;
  out.config = config;
  out.layout = NameOfLayout(files.layout);
  out.parameters = CountParameters(config);
  std::map<DType, TensorTypeSummary> types;
  for (const TensorInfo& tensor : files.tensors.tensors()) {
    TensorTypeSummary& summary = types[tensor.type];
    summary.type = tensor.type;
    summary.tensors += 1;
    summary.elements += tensor.elements();
    summary.bytes += tensor.bytes;
    out.tensor_bytes += tensor.bytes;
  }
  for (const auto& [type, summary] : types) out.types.push_back(summary);
  std::stable_sort(out.types.begin(), out.types.end(),
                   [](const auto& a, const auto& b) { return a.bytes > b.bytes; });
  for (const LayerConfig& layer : config.layers) {
    out.sparse_layers += layer.sparse ? 1 : 0;
    out.window_layers += layer.window > 0 ? 1 : 0;
    out.window = std::max(out.window, layer.window);
  }
  if (files.layout == FileLayout::kGguf) {
    MOXIE_TRY(DescribeGgufTexts(files.metadata, out));
  } else {
    MOXIE_TRY(DescribeFolderTexts(files, out));
  }
  return out;
}

}  // namespace moxie
