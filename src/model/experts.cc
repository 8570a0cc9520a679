#include "model/experts.h"

#include <utility>

#include "model/family.h"
#include "model/repack.h"

namespace moxie {
namespace {

/// What the loading of one layer's experts works with.
struct Context {
  TensorFinder& finder;
  const TensorNames& names;
  std::string_view prefix;
  int64_t experts, dim, ffn;
  std::vector<FeedForwardWeights>& out;
  std::vector<std::unique_ptr<std::byte[]>>& owned;
};

Result<void> LoadSeparate(Context& c) {
  for (int64_t e = 0; e < c.experts; ++e) {
    FeedForwardWeights& expert = c.out[static_cast<size_t>(e)];
    const auto role = [&](const Spellings& names) { return Role{names, c.prefix, ".weight", e}; };
    MOXIE_TRY_ASSIGN(expert.gate, c.finder.Matrix(role(c.names.expert_gate), c.ffn, c.dim));
    MOXIE_TRY_ASSIGN(expert.up, c.finder.Matrix(role(c.names.expert_up), c.ffn, c.dim));
    MOXIE_TRY_ASSIGN(expert.down, c.finder.Matrix(role(c.names.expert_down), c.dim, c.ffn));
  }
  return {};
}

/// One tensor a matrix with the experts stacked, or gate and up in one tensor, gate's rows first.
Result<void> LoadStacked(Context& c, std::string_view suffix) {
  const auto role = [&](const Spellings& names) { return Role{names, c.prefix, suffix}; };
  const bool fused = c.finder.Has(role(c.names.experts_gate_up));
  const TensorInfo* gate = nullptr;
  const TensorInfo* up = nullptr;
  if (fused) {
    MOXIE_TRY_ASSIGN(gate,
                     c.finder.Need(role(c.names.experts_gate_up), {c.experts, 2 * c.ffn, c.dim}));
  } else {
    MOXIE_TRY_ASSIGN(gate, c.finder.Need(role(c.names.experts_gate), {c.experts, c.ffn, c.dim}));
    MOXIE_TRY_ASSIGN(up, c.finder.Need(role(c.names.experts_up), {c.experts, c.ffn, c.dim}));
  }
  MOXIE_TRY_ASSIGN(const TensorInfo* down,
                   c.finder.Need(role(c.names.experts_down), {c.experts, c.dim, c.ffn}));
  for (int64_t e = 0; e < c.experts; ++e) {
    FeedForwardWeights& expert = c.out[static_cast<size_t>(e)];
    const int64_t step = fused ? 2 * c.ffn : c.ffn;
    expert.gate = c.finder.Rows(*gate, e * step, c.ffn, c.dim);
    expert.up = fused ? c.finder.Rows(*gate, e * step + c.ffn, c.ffn, c.dim)
                      : c.finder.Rows(*up, e * step, c.ffn, c.dim);
    expert.down = c.finder.Rows(*down, e * c.dim, c.dim, c.ffn);
  }
  return {};
}

/// Reserves one buffer for `count` matrices a layer's expert and hands them out in order.
class Arena {
 public:
  static Result<Arena> Make(Context& c, int64_t bytes) {
    MOXIE_TRY_ASSIGN(auto buffer, AllocateBytes(bytes));
    Arena arena;
    arena.next_ = buffer.get();
    c.owned.push_back(std::move(buffer));
    return arena;
  }
  /// A matrix whose bytes are to be written to the returned place.
  std::byte* Take(DType type, int64_t rows, int64_t cols, StoredMatrix& stored) {
    const int64_t row_bytes = BytesOf(type, cols).value();
    std::byte* place = next_;
    stored.matrix = {type, rows, cols, row_bytes, place};
    next_ += rows * row_bytes;
    return place;
  }

 private:
  std::byte* next_ = nullptr;
};

Result<int64_t> PlainElementBytes(const Context& c, const TensorInfo& tensor) {
  if (TraitsOf(tensor.type).block_elements == 1) return int64_t{TraitsOf(tensor.type).block_bytes};
  return c.finder.Complain(tensor, "has type " + std::string(NameOf(tensor.type)) +
                                       ", but must be f32, f16 or bf16 to be transposed");
}

/// Mistral's first release: [experts * ffn, dim] for all three, so that down lies transposed.
Result<void> LoadFlat(Context& c) {
  const std::vector<int64_t> shape = {c.experts * c.ffn, c.dim};
  const auto role = [&](const Spellings& names) { return Role{names, c.prefix, ""}; };
  MOXIE_TRY_ASSIGN(const TensorInfo* gate, c.finder.Need(role(c.names.experts_gate), shape));
  MOXIE_TRY_ASSIGN(const TensorInfo* up, c.finder.Need(role(c.names.experts_up), shape));
  MOXIE_TRY_ASSIGN(const TensorInfo* down, c.finder.Need(role(c.names.experts_down), shape));
  MOXIE_TRY_ASSIGN(const int64_t width, PlainElementBytes(c, *down));
  MOXIE_TRY_ASSIGN(Arena arena, Arena::Make(c, c.experts * c.ffn * c.dim * width));
  for (int64_t e = 0; e < c.experts; ++e) {
    FeedForwardWeights& expert = c.out[static_cast<size_t>(e)];
    expert.gate = c.finder.Rows(*gate, e * c.ffn, c.ffn, c.dim);
    expert.up = c.finder.Rows(*up, e * c.ffn, c.ffn, c.dim);
    std::byte* place = arena.Take(down->type, c.dim, c.ffn, expert.down);
    const std::byte* from = c.finder.Data(*down) + e * c.ffn * c.dim * width;
    CopyTransposed(from, c.dim, 0, 1, width, c.dim, c.ffn, place);
  }
  return {};
}

/// gpt-oss in plain floats: [experts, dim, 2 * ffn] with gate and up columns alternating, and
/// [experts, ffn, dim].
Result<void> LoadTransposed(Context& c) {
  const auto role = [&](const Spellings& names) { return Role{names, c.prefix, ""}; };
  MOXIE_TRY_ASSIGN(const TensorInfo* gate_up,
                   c.finder.Need(role(c.names.experts_gate_up), {c.experts, c.dim, 2 * c.ffn}));
  MOXIE_TRY_ASSIGN(const TensorInfo* down,
                   c.finder.Need(role(c.names.experts_down), {c.experts, c.ffn, c.dim}));
  MOXIE_TRY_ASSIGN(const int64_t width, PlainElementBytes(c, *gate_up));
  MOXIE_TRY_ASSIGN(const int64_t down_width, PlainElementBytes(c, *down));
  const int64_t elements = c.ffn * c.dim;
  MOXIE_TRY_ASSIGN(Arena arena, Arena::Make(c, c.experts * elements * (2 * width + down_width)));
  for (int64_t e = 0; e < c.experts; ++e) {
    FeedForwardWeights& expert = c.out[static_cast<size_t>(e)];
    const std::byte* from = c.finder.Data(*gate_up) + e * 2 * elements * width;
    std::byte* gate = arena.Take(gate_up->type, c.ffn, c.dim, expert.gate);
    CopyTransposed(from, 2 * c.ffn, 0, 2, width, c.ffn, c.dim, gate);
    std::byte* up = arena.Take(gate_up->type, c.ffn, c.dim, expert.up);
    CopyTransposed(from, 2 * c.ffn, 1, 2, width, c.ffn, c.dim, up);
    from = c.finder.Data(*down) + e * elements * down_width;
    std::byte* place = arena.Take(down->type, c.dim, c.ffn, expert.down);
    CopyTransposed(from, c.dim, 0, 1, down_width, c.dim, c.ffn, place);
  }
  return {};
}

/// One of gpt-oss's MXFP4 tensors: blocks and scales of all experts, `rows` rows of `cols` each.
struct Mxfp4Tensor {
  const std::byte* blocks;
  const std::byte* scales;
  int64_t rows, row_blocks;

  /// Packs every `step`-th row of an expert from `first` on.
  void Pack(int64_t expert, int64_t first, int64_t step, std::byte* out) const {
    for (int64_t r = first; r < rows; r += step) {
      const int64_t block = (expert * rows + r) * row_blocks;
      PackMxfp4Row(blocks + block * 16, scales + block, row_blocks, out);
      out += BytesOf(DType::kMXFP4, row_blocks * 32).value();
    }
  }
};

Result<Mxfp4Tensor> FindMxfp4(Context& c, const Spellings& names, int64_t rows, int64_t cols) {
  const Role blocks_role{names, c.prefix, "_blocks"};
  const Role scales_role{names, c.prefix, "_scales"};
  const TensorInfo* blocks = c.finder.Find(blocks_role);
  const TensorInfo* scales = c.finder.Find(scales_role);
  const std::vector<int64_t> scales_shape = {c.experts, rows, cols / 32};
  const std::vector<int64_t> blocks_shape = {c.experts, rows, cols / 32, 16};
  if (blocks == nullptr) return c.finder.Missing(blocks_role, ShowShape(blocks_shape));
  if (scales == nullptr) return c.finder.Missing(scales_role, ShowShape(scales_shape));
  for (const TensorInfo* tensor : {blocks, scales}) {
    const auto& shape = tensor == blocks ? blocks_shape : scales_shape;
    if (tensor->type != DType::kI8 || tensor->shape != shape || cols % 32 != 0) {
      return c.finder.Complain(*tensor, "has shape " + ShowShape(tensor->shape) + " of " +
                                            std::string(NameOf(tensor->type)) + ", but must have " +
                                            ShowShape(shape) + " of bytes");
    }
  }
  return Mxfp4Tensor{c.finder.Data(*blocks), c.finder.Data(*scales), rows, cols / 32};
}

Result<void> LoadMxfp4(Context& c) {
  MOXIE_TRY_ASSIGN(const Mxfp4Tensor gate_up,
                   FindMxfp4(c, c.names.experts_gate_up, 2 * c.ffn, c.dim));
  MOXIE_TRY_ASSIGN(const Mxfp4Tensor down, FindMxfp4(c, c.names.experts_down, c.dim, c.ffn));
  const int64_t bytes = BytesOf(DType::kMXFP4, c.experts * 3 * c.ffn * c.dim).value();
  MOXIE_TRY_ASSIGN(Arena arena, Arena::Make(c, bytes));
  for (int64_t e = 0; e < c.experts; ++e) {
    FeedForwardWeights& expert = c.out[static_cast<size_t>(e)];
    gate_up.Pack(e, 0, 2, arena.Take(DType::kMXFP4, c.ffn, c.dim, expert.gate));
    gate_up.Pack(e, 1, 2, arena.Take(DType::kMXFP4, c.ffn, c.dim, expert.up));
    down.Pack(e, 0, 1, arena.Take(DType::kMXFP4, c.dim, c.ffn, expert.down));
  }
  return {};
}

/// Every `step`-th of an expert's `step * count` values from `first` on.
std::vector<float> Pick(const std::vector<float>& values, int64_t expert, int64_t first,
                        int64_t step, int64_t count) {
  std::vector<float> picked(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) {
    const int64_t from = expert * step * count + first + i * step;
    picked[static_cast<size_t>(i)] = values[static_cast<size_t>(from)];
  }
  return picked;
}

Result<std::vector<float>> ReadBiases(Context& c, const Spellings& names, std::string_view suffix,
                                      int64_t width) {
  MOXIE_TRY_ASSIGN(const TensorInfo* tensor,
                   c.finder.Need(Role{names, c.prefix, suffix}, {c.experts, width}));
  return c.finder.Values(*tensor);
}

Result<void> LoadBiases(Context& c, bool alternating) {
  std::vector<float> gate, up;
  const std::string_view suffix = alternating ? "_bias" : ".bias";
  if (alternating) {
    MOXIE_TRY_ASSIGN(gate, ReadBiases(c, c.names.experts_gate_up, suffix, 2 * c.ffn));
  } else {
    MOXIE_TRY_ASSIGN(gate, ReadBiases(c, c.names.experts_gate, suffix, c.ffn));
    MOXIE_TRY_ASSIGN(up, ReadBiases(c, c.names.experts_up, suffix, c.ffn));
  }
  MOXIE_TRY_ASSIGN(const auto down, ReadBiases(c, c.names.experts_down, suffix, c.dim));
  for (int64_t e = 0; e < c.experts; ++e) {
    FeedForwardWeights& expert = c.out[static_cast<size_t>(e)];
    expert.gate_bias = Pick(gate, e, 0, alternating ? 2 : 1, c.ffn);
    expert.up_bias = alternating ? Pick(gate, e, 1, 2, c.ffn) : Pick(up, e, 0, 1, c.ffn);
    expert.down_bias = Pick(down, e, 0, 1, c.dim);
  }
  return {};
}

Result<void> LoadMatrices(Context& c, FileLayout layout, bool transposed) {
  if (transposed && layout == FileLayout::kHuggingFace) {
    const bool packed = c.finder.Has({c.names.experts_gate_up, c.prefix, "_blocks"});
    return packed ? LoadMxfp4(c) : LoadTransposed(c);
  }
  if (c.finder.Has({c.names.expert_gate, c.prefix, ".weight", 0})) return LoadSeparate(c);
  if (layout == FileLayout::kGguf) return LoadStacked(c, ".weight");
  const bool flat = layout == FileLayout::kConsolidated;
  if (flat && c.finder.Has({c.names.experts_gate, c.prefix, ""})) return LoadFlat(c);
  if (!flat && c.finder.Has({c.names.experts_gate_up, c.prefix, ""})) return LoadStacked(c, "");
  return LoadSeparate(c);  // Names the tensors that are missing.
}

}  // namespace

Result<void> LoadExperts(TensorFinder& finder, const ModelFiles& files, const ModelConfig& config,
                         std::string_view prefix, LayerWeights& layer,
                         std::vector<std::unique_ptr<std::byte[]>>& owned) {
  layer.experts.resize(static_cast<size_t>(config.router.experts));
  Context c{finder,     NamesOf(files.layout), prefix,        config.router.experts,
            config.dim, config.expert_ffn_dim, layer.experts, owned};
  const Family* family = FindFamily(config.family);
  const bool transposed = family != nullptr && family->transposed_experts;
  MOXIE_TRY(LoadMatrices(c, files.layout, transposed));
  if (!config.expert_bias) return {};
  return LoadBiases(c, transposed && files.layout == FileLayout::kHuggingFace);
}

}  // namespace moxie
