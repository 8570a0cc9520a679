#include "kernels/avx2/avx2.h"
#include "kernels/avx2/floats.h"
#include "kernels/lanes/tiled_attention.h"

namespace moxie::avx2 {

void AttentionScores(const CacheRows& keys, const float* queries, int64_t count, float scale,
                     float* scores, int64_t scores_stride) {
  lanes::AttentionScores<Floats>(keys, queries, count, scale, scores, scores_stride);
}

void AttentionValues(const CacheRows& values, const float* weights, int64_t weights_stride,
                     int64_t count, float* out) {
  lanes::AttentionValues<Floats>(values, weights, weights_stride, count, out);
}

int64_t AttentionScratchBytes(int64_t key_dim, int64_t value_dim) {
  return lanes::TileScratchBytes<Floats>(key_dim, value_dim);
}

void Attend(const AttentionTile& tile, std::byte* scratch, float* maxima, double* totals,
            float* sums) {
  lanes::Attend<Floats>(tile, scratch, maxima, totals, sums);
}

}  // namespace moxie::avx2
