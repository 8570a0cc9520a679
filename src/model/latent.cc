#include "model/latent.h"

#include <cstring>
#include <utility>

#include "model/repack.h"
#include "quant/dequantize.h"

namespace moxie {
namespace {

constexpr Spellings kKeyHalf = {"attn_k_b"};
constexpr Spellings kValueHalf = {"attn_v_b"};

/// Elements of `tensor` from `first` on, as `type` (its own, or float32).
void CopyAs(const TensorFinder& finder, const TensorInfo& tensor, DType type, int64_t first,
            int64_t elements, std::byte* out) {
  const std::byte* from = finder.Data(tensor) + BytesOf(tensor.type, first).value();
  if (type == tensor.type) {
    std::memcpy(out, from, static_cast<size_t>(BytesOf(type, elements).value()));
  } else {
    // `out` holds float32 and is aligned as operator new aligns.
    Dequantize(tensor.type, from, elements, reinterpret_cast<float*>(out));
  }
}

Result<void> JoinHalves(TensorFinder& finder, const ModelConfig& config, std::string_view prefix,
                        AttentionWeights& out, std::vector<std::unique_ptr<std::byte[]>>& owned) {
  const LatentConfig& latent = config.attention.latent;
  const int64_t heads = config.attention.heads;
  const int64_t rank = latent.kv_rank;
  MOXIE_TRY_ASSIGN(const TensorInfo* key,
                   finder.Need({kKeyHalf, prefix}, {heads, rank, latent.nope_dim}));
  MOXIE_TRY_ASSIGN(const TensorInfo* value,
                   finder.Need({kValueHalf, prefix}, {heads, latent.value_dim, rank}));
  const bool plain = TraitsOf(key->type).block_elements == 1 && key->type == value->type;
  const DType type = plain ? key->type : DType::kF32;
  const int64_t width = TraitsOf(type).block_bytes;
  const int64_t rows = heads * (latent.nope_dim + latent.value_dim);
  MOXIE_TRY_ASSIGN(auto buffer, AllocateBytes(rows * rank * width));
  MOXIE_TRY_ASSIGN(const auto head_keys, AllocateBytes(rank * latent.nope_dim * width));
  std::byte* place = buffer.get();
  for (int64_t h = 0; h < heads; ++h) {
    const int64_t keys = rank * latent.nope_dim;
    CopyAs(finder, *key, type, h * keys, keys, head_keys.get());
    CopyTransposed(head_keys.get(), latent.nope_dim, 0, 1, width, latent.nope_dim, rank, place);
    place += keys * width;
    const int64_t values = latent.value_dim * rank;
    CopyAs(finder, *value, type, h * values, values, place);
    place += values * width;
  }
  out.kv_b = {type, rows, rank, rank * width, buffer.get()};
  owned.push_back(std::move(buffer));
  return {};
}

}  // namespace

Result<void> LoadLatentAttention(TensorFinder& finder, const TensorNames& names,
                                 const ModelConfig& config, std::string_view prefix,
                                 AttentionWeights& out,
                                 std::vector<std::unique_ptr<std::byte[]>>& owned) {
  const LatentConfig& latent = config.attention.latent;
  const int64_t heads = config.attention.heads;
  const int64_t q_rows = heads * config.attention.head_dim;
  const auto matrix = [&](const Spellings& spellings, int64_t rows, int64_t cols,
                          WeightMatrix& to) -> Result<void> {
    MOXIE_TRY_ASSIGN(const StoredMatrix stored, finder.Matrix({spellings, prefix}, rows, cols));
    to = stored.matrix;
    return {};
  };
  if (latent.q_rank > 0) {
    MOXIE_TRY(matrix(names.q_a, latent.q_rank, config.dim, out.q_a));
    MOXIE_TRY_ASSIGN(out.q_a_norm, finder.Vector({names.q_a_norm, prefix}, latent.q_rank));
    MOXIE_TRY(matrix(names.q_b, q_rows, latent.q_rank, out.q));
  } else {
    MOXIE_TRY(matrix(names.q, q_rows, config.dim, out.q));
  }
  MOXIE_TRY(matrix(names.kv_a, latent.kv_rank + latent.rope_dim, config.dim, out.kv_a));
  MOXIE_TRY_ASSIGN(out.kv_a_norm, finder.Vector({names.kv_a_norm, prefix}, latent.kv_rank));
  MOXIE_TRY(matrix(names.attention_output, config.dim, heads * latent.value_dim, out.output));
  if (finder.Has({kKeyHalf, prefix})) return JoinHalves(finder, config, prefix, out, owned);
  return matrix(names.kv_b, heads * (latent.nope_dim + latent.value_dim), latent.kv_rank, out.kv_b);
}

}  // namespace moxie
