#include "forward/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace moxie {
namespace {

constexpr double kTwoPi = 2 * std::numbers::pi;

/// llama3: long wavelengths are stretched by `factor`, short ones stay, between them a blend.
float ScaleLlama3(const RopeConfig& config, float frequency) {
  const double wavelength = kTwoPi / static_cast<double>(frequency);
  const double longest = config.original_context / config.low_frequency_factor;
  const double shortest = config.original_context / config.high_frequency_factor;
  const auto stretched = static_cast<float>(static_cast<double>(frequency) / config.factor);
  if (wavelength > longest) return stretched;
  if (wavelength < shortest) return frequency;
  const auto blend =
      static_cast<float>((config.original_context / wavelength - config.low_frequency_factor) /
                         (config.high_frequency_factor - config.low_frequency_factor));
  return (1 - blend) * stretched + blend * frequency;
}

/// The dimension that turns `rotations` times over the original context.
double YarnDimension(const RopeConfig& config, double rotations) {
  return static_cast<double>(config.dims) *
         std::log(config.original_context / (rotations * kTwoPi)) / (2 * std::log(config.base));
}

void ScaleYarn(const RopeConfig& config, std::span<float> frequencies) {
  double low = YarnDimension(config, config.beta_fast);
  double high = YarnDimension(config, config.beta_slow);
  if (config.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(config.dims - 1));
  if (low == high) high += 0.001;
  for (size_t i = 0; i < frequencies.size(); ++i) {
    const auto ramp =
        std::clamp(static_cast<float>((static_cast<double>(i) - low) / (high - low)), 0.0f, 1.0f);
    const auto interpolated =
        static_cast<float>(static_cast<double>(frequencies[i]) / config.factor);
    const float kept = 1 - ramp;
    frequencies[i] = interpolated * (1 - kept) + frequencies[i] * kept;
  }
}

}  // namespace

std::vector<float> RopeFrequencies(const RopeConfig& config) {
  std::vector<float> frequencies(static_cast<size_t>(config.dims / 2));
  for (size_t i = 0; i < frequencies.size(); ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(config.dims);
    const auto power = static_cast<float>(std::pow(config.base, static_cast<double>(exponent)));
    frequencies[i] = 1.0f / power;
    if (!config.frequency_factors.empty()) frequencies[i] /= config.frequency_factors[i];
  }
  switch (config.scaling) {
    case RopeScaling::kNone:
      break;
    case RopeScaling::kLinear:
      for (float& f : frequencies) f = static_cast<float>(static_cast<double>(f) / config.factor);
      break;
    case RopeScaling::kLlama3:
      for (float& f : frequencies) f = ScaleLlama3(config, f);
      break;
    case RopeScaling::kYarn:
      ScaleYarn(config, frequencies);
      break;
  }
  return frequencies;
}

Rope::Rope(const RopeConfig& config, int64_t max_tokens)
    : layout_(config.layout),
      half_(config.dims / 2),
      attention_factor_(static_cast<float>(config.attention_factor)),
      frequencies_(RopeFrequencies(config)),
      cosines_(static_cast<size_t>(max_tokens * half_)),
      sines_(cosines_.size()) {}

void Rope::Prepare(std::span<const int64_t> positions) {
  size_t at = 0;
  for (const int64_t position : positions) {
    for (const float frequency : frequencies_) {
      // The angle is rounded to float32 as in training; its cosine is then exact to the last bit.
      const auto angle = static_cast<double>(static_cast<float>(position) * frequency);
      cosines_[at] = static_cast<float>(std::cos(angle)) * attention_factor_;
      sines_[at] = static_cast<float>(std::sin(angle)) * attention_factor_;
      ++at;
    }
  }
}

void Rope::Rotate(int64_t token, float* head) const {
  const float* cosines = cosines_.data() + token * half_;
  const float* sines = sines_.data() + token * half_;
  const bool interleaved = layout_ == RopeLayout::kInterleaved;
  const int64_t step = interleaved ? 2 : 1;
  float* second = interleaved ? head + 1 : head + half_;
  for (int64_t i = 0; i < half_; ++i) {
    float& a = head[i * step];
    float& b = second[i * step];
    const float x = a, y = b;
    a = x * cosines[i] - y * sines[i];
    b = y * cosines[i] + x * sines[i];
  }
}

}  // namespace moxie
