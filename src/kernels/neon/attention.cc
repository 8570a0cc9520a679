#include "kernels/lanes/attention.h"

#include "kernels/neon/floats.h"
#include "kernels/neon/neon.h"

namespace moxie::neon {

void AttentionScores(const CacheRows& keys, const float* queries, int64_t count, float scale,
                     float* scores, int64_t scores_stride) {
  lanes::AttentionScores<Floats>(keys, queries, count, scale, scores, scores_stride);
}

void AttentionValues(const CacheRows& values, const float* weights, int64_t weights_stride,
                     int64_t count, float* out) {
  lanes::AttentionValues<Floats>(values, weights, weights_stride, count, out);
}

}  // namespace moxie::neon
