#include "kernels/lanes/attention.h"

#include "kernels/avx2/avx2.h"
#include "kernels/avx2/floats.h"

namespace moxie::avx2 {

void AttentionScores(const CacheRows& keys, const float* queries, int64_t count, float scale,
                     float* scores, int64_t scores_stride) {
  lanes::AttentionScores<Floats>(keys, queries, count, scale, scores, scores_stride);
}

void AttentionValues(const CacheRows& values, const float* weights, int64_t weights_stride,
                     int64_t count, float* out) {
  lanes::AttentionValues<Floats>(values, weights, weights_stride, count, out);
}

}  // namespace moxie::avx2
