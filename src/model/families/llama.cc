#include "model/families/families.h"
#include "model/keys.h"

namespace moxie {
namespace {

constexpr Key kMlpBias = {{"mlp_bias"}};

Result<void> ReadDense(const ConfigSource& source, ModelConfig& config) {
  MOXIE_TRY(ReadAttention(source, config));
  MOXIE_TRY_ASSIGN(config.ffn_dim, source.settings.Integer(keys::kFfnDim, {1, kMaxFfnDim}));
  if (source.is_gguf()) {
    config.ffn_bias = source.HasTensor("blk.0.ffn_gate.bias");
  } else {
    MOXIE_TRY_ASSIGN(config.ffn_bias, source.settings.BooleanOr(kMlpBias, false));
  }
  return {};
}

/// llama.cpp's converter gives Mistral the architecture "llama", with its window.
Result<void> ReadLlama(const ConfigSource& source, ModelConfig& config) {
  MOXIE_TRY(ReadDense(source, config));
  return source.is_gguf() ? ReadUniformWindow(source, config) : Result<void>();
}

Result<void> ReadMistral(const ConfigSource& source, ModelConfig& config) {
  MOXIE_TRY(ReadDense(source, config));
  return ReadUniformWindow(source, config);
}

}  // namespace

/// Llama 2, 3 and 3.1 (arXiv:2307.09288, arXiv:2407.21783), and SmolLM2, which has its layout.
const Family kLlama = {.name = "llama",
                       .model_type = "llama",
                       .architecture = "LlamaForCausalLM",
                       .gguf = "llama",
                       .gguf_interleaved = true,
                       .read = ReadLlama};

/// Mistral (arXiv:2310.06825): Llama with a sliding window on every layer.
const Family kMistral = {.name = "mistral",
                         .model_type = "mistral",
                         .architecture = "MistralForCausalLM",
                         .gguf = "llama",
                         .gguf_interleaved = true,
                         .read = ReadMistral};

}  // namespace moxie
