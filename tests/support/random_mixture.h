#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <random>
#include <string>
#include <vector>

#include "formats/model_files.h"
#include "formats/tensor_writer.h"
#include "moxie/convert.h"
#include "support/source_dir.h"

namespace moxie::testing {

/// The shapes of a Mixtral whose rows are whole blocks of 32.
struct RandomMixture {
  int64_t dim = 64, ffn = 96, layers = 2, heads = 4, kv_heads = 2, head_dim = 16, experts = 4;
  int64_t vocab = 333;  ///< the golden Mixtral's, whose tokenizer it has
  bool even = false;    ///< layers are alike, and the router prefers no expert
};

/// Writes it as a float32 GGUF with random weights. Unless it is even, tensors differ in how much
/// they matter: later layers' weights are larger, and the router prefers low experts.
inline void WriteRandomMixture(const std::filesystem::path& out, const RandomMixture& m = {}) {
  const std::filesystem::path golden = out.string() + ".golden.gguf";
  ASSERT_TRUE(Convert((SourceDir() / "tests/golden/models/mixtral").string(), golden.string(), {}));
  auto files = OpenModelFiles(golden);
  ASSERT_TRUE(files);
  GgufMetadata metadata = files->metadata;
  const auto set = [&](const std::string& key, int64_t value) {
    metadata.values["llama." + key] = static_cast<uint32_t>(value);
  };
  set("embedding_length", m.dim);
  set("feed_forward_length", m.ffn);
  set("block_count", m.layers);
  set("attention.head_count", m.heads);
  set("attention.head_count_kv", m.kv_heads);
  for (const char* key : {"attention.key_length", "attention.value_length", "rope.dimension_count"})
    set(key, m.head_dim);
  set("expert_count", m.experts);
  set("expert_used_count", std::min<int64_t>(m.experts, 2));
  std::vector<TensorSpec> specs;
  const auto add = [&](const std::string& name, std::vector<int64_t> shape) {
    specs.push_back({name + ".weight", DType::kF32, std::move(shape)});
  };
  add("token_embd", {m.vocab, m.dim});
  add("output", {m.vocab, m.dim});
  add("output_norm", {m.dim});
  for (int64_t i = 0; i < m.layers; ++i) {
    const std::string layer = "blk." + std::to_string(i) + ".";
    add(layer + "attn_norm", {m.dim});
    add(layer + "attn_q", {m.heads * m.head_dim, m.dim});
    add(layer + "attn_k", {m.kv_heads * m.head_dim, m.dim});
    add(layer + "attn_v", {m.kv_heads * m.head_dim, m.dim});
    add(layer + "attn_output", {m.dim, m.heads * m.head_dim});
    add(layer + "ffn_norm", {m.dim});
    add(layer + "ffn_gate_inp", {m.experts, m.dim});
    add(layer + "ffn_gate_exps", {m.experts, m.ffn, m.dim});
    add(layer + "ffn_up_exps", {m.experts, m.ffn, m.dim});
    add(layer + "ffn_down_exps", {m.experts, m.dim, m.ffn});
  }
  auto writer = TensorWriter::CreateGguf(out, metadata, specs);
  ASSERT_TRUE(writer);
  std::mt19937 random(5);
  std::normal_distribution<float> normal;
  for (const TensorSpec& spec : specs) {
    size_t elements = 1;
    for (const int64_t d : spec.shape) elements *= static_cast<size_t>(d);
    const bool second = !m.even && spec.name.starts_with("blk.1.");
    const float scale = (second ? 2.0f : 1.0f) / std::sqrt(static_cast<float>(spec.shape.back()));
    std::vector<float> values(elements, 1.0f);
    if (spec.shape.size() > 1)
      std::ranges::generate(values, [&] { return scale * normal(random); });
    if (spec.name.ends_with("ffn_gate_inp.weight"))
      for (size_t e = 0; e < static_cast<size_t>(m.experts); ++e)
        for (size_t c = 0; c < static_cast<size_t>(m.dim); ++c)
          values[e * static_cast<size_t>(m.dim) + c] *=
              4.0f / static_cast<float>(m.even ? 1 : 1 + e);
    ASSERT_TRUE(writer->Write(std::as_bytes(std::span(values))));
  }
  ASSERT_TRUE(writer->Finish());
  std::filesystem::remove(golden);
}

}  // namespace moxie::testing
