#include "forward/pack_weights.h"

#include <algorithm>
#include <cstring>
#include <vector>

namespace moxie {
namespace {

/// The embedding is the output matrix, too: rows of it can be read though they are packed.
bool EmbeddingIsOutput(const ModelWeights& weights) {
  const WeightMatrix &a = weights.embedding, &b = weights.output;
  return a.data == b.data && a.type == b.type && a.rows == b.rows && a.row_stride == b.row_stride;
}

/// Of what is multiplied. Bytes that two other matrices share stay as they are: the other may cut
/// the rows elsewhere.
std::vector<WeightMatrix*> PackableMatrices(ModelWeights& weights, ResidentPart part,
                                            const PageBuffer& memory, const KernelSet& kernels) {
  std::vector<const WeightMatrix*> read_by_row = {&weights.embedding};
  for (const LayerWeights& layer : weights.layers) {
    read_by_row.push_back(&layer.router);
    read_by_row.push_back(&layer.attention.kv_b);
  }
  std::vector<WeightMatrix*> all;
  const bool tied = EmbeddingIsOutput(weights);
  ForEachMatrix(weights, part, [&](WeightMatrix& matrix) {
    if (tied && &matrix == &weights.embedding) return;
    if (matrix.data >= memory.data() && matrix.data < memory.data() + memory.size())
      all.push_back(&matrix);
  });
  std::ranges::sort(all, {}, &WeightMatrix::data);
  std::vector<WeightMatrix*> packable;
  const std::byte* end = nullptr;  // of all before
  for (size_t i = 0; i < all.size(); ++i) {
    const std::byte* const begin = all[i]->data;
    const bool alone =
        begin >= end && (i + 1 == all.size() || begin + all[i]->bytes() <= all[i + 1]->data);
    end = std::max(end, begin + all[i]->bytes());
    if (alone && PackedRowsFor(kernels, *all[i]) > 0 &&
        std::ranges::find(read_by_row, all[i]) == read_by_row.end())
      packable.push_back(all[i]);
  }
  return packable;
}

}  // namespace

int32_t PackedRowsFor(const KernelSet& kernels, const WeightMatrix& matrix) {
  if (kernels.packed_rows == nullptr || matrix.empty()) return 0;
  const int64_t rows = kernels.packed_rows(matrix.type);
  const bool even =
      rows > 0 && matrix.rows % rows == 0 && matrix.row_stride == BytesOf(matrix.type, matrix.cols);
  return even ? static_cast<int32_t>(rows) : 0;
}

void RowPacker::Pack(const WeightMatrix& matrix, int32_t rows, std::byte* begin, int64_t groups) {
  const int64_t group_bytes = rows * matrix.row_stride;
  threads_.ParallelFor(groups, [&](int64_t i, int worker) {
    std::vector<std::byte>& copy = copies_[static_cast<size_t>(worker)];
    copy.resize(std::max(copy.size(), static_cast<size_t>(group_bytes)));
    std::byte* const at = begin + i * group_bytes;
    std::memcpy(copy.data(), at, static_cast<size_t>(group_bytes));
    kernels_.pack(matrix.type, matrix.row_stride, copy.data(), at);
  });
}

WeightPacker::WeightPacker(ModelWeights& weights, ResidentPart part, const PageBuffer& memory,
                           const KernelSet& kernels, ThreadPool& threads)
    : weights_(weights),
      memory_(memory),
      kernels_(kernels),
      packer_(kernels, threads),
      matrices_(PackableMatrices(weights, part, memory, kernels)) {}

void WeightPacker::Pack(int64_t bytes) {
  for (; matrix_ < matrices_.size(); ++matrix_, group_ = 0) {
    WeightMatrix& matrix = *matrices_[matrix_];
    const int32_t rows = PackedRowsFor(kernels_, matrix);
    const int64_t group_bytes = rows * matrix.row_stride, groups = matrix.rows / rows;
    // Weights are read-only to all others, but the memory is the model's.
    std::byte* const begin = memory_.data() + (matrix.data - memory_.data());
    const int64_t there = (memory_.data() + bytes - begin) / group_bytes;
    const int64_t end = std::min(there, groups);
    if (end > group_) {
      packer_.Pack(matrix, rows, begin + group_ * group_bytes, end - group_);
      group_ = end;
    }
    if (group_ < groups) return;
    if (&matrix == &weights_.output && EmbeddingIsOutput(weights_))
      weights_.embedding.packed_rows = rows;
    matrix.packed_rows = rows;
  }
}

}  // namespace moxie
