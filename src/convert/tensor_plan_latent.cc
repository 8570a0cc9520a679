#include "convert/tensor_planner.h"

namespace moxie {
namespace {

constexpr Spellings kKeyHalf = {"attn_k_b"};
constexpr Spellings kValueHalf = {"attn_v_b"};

}  // namespace

Result<void> TensorPlanner::LatentAttention() {
  const LatentConfig& latent = config_.attention.latent;
  const int64_t heads = config_.attention.heads;
  const int64_t q_rows = heads * config_.attention.head_dim;
  if (latent.q_rank > 0) {
    MOXIE_TRY(Copy(&TensorNames::q_a, {latent.q_rank, config_.dim}));
    MOXIE_TRY(Copy(&TensorNames::q_a_norm, {latent.q_rank}));
    MOXIE_TRY(Copy(&TensorNames::q_b, {q_rows, latent.q_rank}));
  } else {
    MOXIE_TRY(Copy(&TensorNames::q, {q_rows, config_.dim}));
  }
  MOXIE_TRY(Copy(&TensorNames::kv_a, {latent.kv_rank + latent.rope_dim, config_.dim}));
  MOXIE_TRY(Copy(&TensorNames::kv_a_norm, {latent.kv_rank}));
  if (finder_.Has({kKeyHalf, from_prefix_})) {
    MOXIE_TRY(JoinKeysAndValues());
  } else {
    const Shape shape = {heads * (latent.nope_dim + latent.value_dim), latent.kv_rank};
    MOXIE_TRY_ASSIGN(const TensorInfo* kv_b, Find(&TensorNames::kv_b, shape, ".weight"));
    const bool split = to_layout_ == FileLayout::kGguf;
    MOXIE_TRY(split ? SplitKeysAndValues(*kv_b)
                    : Add(Name(&TensorNames::kv_b), shape, {View(*kv_b)}));
  }
  return Copy(&TensorNames::attention_output, {config_.dim, heads * latent.value_dim});
}

/// GGUF wants each head's keys transposed, [heads, rank, nope], and values as they are.
Result<void> TensorPlanner::SplitKeysAndValues(const TensorInfo& kv_b) {
  const LatentConfig& latent = config_.attention.latent;
  const int64_t heads = config_.attention.heads;
  const TensorView whole = View(kv_b);
  const int64_t row = whole.rows.back().stride;
  const int64_t head = (latent.nope_dim + latent.value_dim) * row;
  TensorView keys = whole;
  keys.rows = {{heads, head}, {latent.nope_dim, row}};
  keys = Transposed(keys);
  MOXIE_TRY(Add(to_prefix_ + std::string(kKeyHalf[0]) + ".weight",
                {heads, latent.kv_rank, latent.nope_dim}, {std::move(keys)}));
  TensorView values = whole;
  values.data += latent.nope_dim * row;
  values.rows = {{heads, head}, {latent.value_dim, row}};
  return Add(to_prefix_ + std::string(kValueHalf[0]) + ".weight",
             {heads, latent.value_dim, latent.kv_rank}, {std::move(values)});
}

/// And back: a head's keys, then its values.
Result<void> TensorPlanner::JoinKeysAndValues() {
  const LatentConfig& latent = config_.attention.latent;
  const int64_t heads = config_.attention.heads;
  MOXIE_TRY_ASSIGN(const TensorInfo* key, finder_.Need({kKeyHalf, from_prefix_},
                                                       {heads, latent.kv_rank, latent.nope_dim}));
  MOXIE_TRY_ASSIGN(
      const TensorInfo* value,
      finder_.Need({kValueHalf, from_prefix_}, {heads, latent.value_dim, latent.kv_rank}));
  const TensorView keys = View(*key);
  const TensorView values = View(*value);
  std::vector<TensorView> parts;
  for (int64_t h = 0; h < heads; ++h) {
    parts.push_back(Transposed(Entry(keys, h)));
    parts.push_back(Entry(values, h));
  }
  return Add(Name(&TensorNames::kv_b),
             {heads * (latent.nope_dim + latent.value_dim), latent.kv_rank}, std::move(parts));
}

}  // namespace moxie
