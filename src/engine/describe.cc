#include "model/describe.h"

#include "engine/model_parts.h"
#include "moxie/model.h"

namespace moxie {
namespace {

std::string NameOf(RopeScaling scaling) {
  switch (scaling) {
    case RopeScaling::kNone:
      return "none";
    case RopeScaling::kLinear:
      return "linear";
    case RopeScaling::kLlama3:
      return "llama3";
    case RopeScaling::kYarn:
      return "yarn";
  }
  return "";
}

void DescribeConfig(const ModelConfig& config, ModelDescription& out) {
  out.family = config.family;
  out.name = config.name;
  out.dim = config.dim;
  out.layers = static_cast<int64_t>(config.layers.size());
  for (size_t i = 0; i < config.layers.size(); ++i) {
    if (config.layers[i].sparse) out.mixture_layer_indices.push_back(static_cast<int64_t>(i));
  }
  out.heads = config.attention.heads;
  out.kv_heads = config.attention.kv_heads;
  out.head_dim = config.attention.head_dim;
  out.expert_ffn_dim = config.expert_ffn_dim;
  out.experts = config.router.experts;
  out.experts_per_token = config.router.used;
  out.shared_ffn_dim = config.shared_ffn_dim;
  out.vocab_size = config.vocab_size;
  out.context_length = config.context_length;
  out.rope_base = config.rope.base;
  out.rope_scaling = NameOf(config.rope.scaling);
  out.tied_embeddings = config.tied_embeddings;
  if (out.mixture_layers < out.layers) out.ffn_dim = config.ffn_dim;
}

void DescribeTokenizer(const Tokenizer& tokenizer, ModelDescription& out) {
  out.tokenizer_vocab = tokenizer.vocab_size();
  out.bos = tokenizer.bos().value_or(-1);
  out.eos = tokenizer.eos().value_or(-1);
  out.adds_bos = tokenizer.adds_bos();
  out.stop_tokens = tokenizer.stop_tokens();
}

Result<ModelDescription> Describe(const std::string& path, const ModelFiles& files,
                                  const ModelConfig& config, const Tokenizer& tokenizer) {
  MOXIE_TRY_ASSIGN(const ModelSummary summary, SummariseModel(files, config));

  ModelDescription out;
  out.path = path;
  out.layout = summary.layout;
  out.parameters = summary.parameters.total;
  out.active_parameters = summary.parameters.active;
  out.file_bytes = static_cast<int64_t>(summary.tensor_bytes);
  out.mixture_layers = summary.sparse_layers;
  out.window = summary.window;
  out.window_layers = summary.window_layers;
  out.tokenizer = summary.tokenizer;
  DescribeConfig(config, out);
  DescribeTokenizer(tokenizer, out);
  MOXIE_TRY_ASSIGN(out.chat_template, ReadChatTemplate(files));
  for (const TensorInfo& tensor : files.tensors.tensors()) {
    out.tensors.push_back({tensor.name, std::string(NameOf(tensor.type)), tensor.shape,
                           static_cast<int64_t>(tensor.bytes)});
  }
  return out;
}

}  // namespace

Result<ModelDescription> DescribeModel(const std::string& path) {
  MOXIE_TRY_ASSIGN(const ModelFiles files, OpenModelFiles(path));
  MOXIE_TRY_ASSIGN(const ModelConfig config, ReadModelConfig(files));
  MOXIE_TRY_ASSIGN(const std::unique_ptr<Tokenizer> tokenizer, LoadTokenizer(files));
  MOXIE_TRY(LoadWeights(files, config));
  return Describe(path, files, config, *tokenizer);
}

Result<ModelDescription> ModelHead::Describe() const {
  return moxie::Describe(path_, parts_->files, parts_->config, *parts_->tokenizer);
}

}  // namespace moxie
