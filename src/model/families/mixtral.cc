#include "model/families/families.h"
#include "model/keys.h"

namespace moxie {
namespace {

Result<void> Read(const ConfigSource& source, ModelConfig& config) {
  MOXIE_TRY(ReadAttention(source, config));
  MOXIE_TRY(ReadUniformWindow(source, config));
  MOXIE_TRY(ReadExperts(source, keys::kFfnDim, config));
  if (source.is_gguf()) {
    MOXIE_TRY_ASSIGN(config.ffn_dim, source.settings.IntegerOr(keys::kFfnDim, {1, kMaxFfnDim},
                                                               config.expert_ffn_dim));
  }
  return {};
}

}  // namespace

/// Mixtral (arXiv:2401.04088): softmax over the chosen experts. GGUF calls it llama.
const Family kMixtral = {.name = "mixtral",
                         .model_type = "mixtral",
                         .architecture = "MixtralForCausalLM",
                         .gguf = "llama",
                         .gguf_interleaved = true,
                         .rope_base = 1e6,
                         .read = Read};

}  // namespace moxie
