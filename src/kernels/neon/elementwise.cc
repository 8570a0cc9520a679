#include "kernels/lanes/elementwise.h"

#include "kernels/neon/floats.h"
#include "kernels/neon/neon.h"

namespace moxie::neon {

void RmsNorm(const float* x, const float* scale, int64_t n, float eps, float* out) {
  lanes::RmsNorm<Floats>(x, scale, n, eps, out);
}

float ExpMinusMax(float* x, int64_t n, float max) { return lanes::ExpMinusMax<Floats>(x, n, max); }

void SiluMultiply(float* gate, const float* up, int64_t n) {
  lanes::SiluMultiply<Floats>(gate, up, n);
}

void AddScaled(float a, const float* x, int64_t n, float* y) {
  lanes::AddScaled<Floats>(a, x, n, y);
}

}  // namespace moxie::neon
