#include "forward/feed_forward.h"

#include <gtest/gtest.h>

#include <array>
#include <numeric>
#include <random>
#include <vector>

#include "quant/quantize.h"

namespace moxie {
namespace {

/// One that asks for every input has gate and up computed whole before anything is converted.
struct Nobody final : InputObserver {
  void OnInput(const MatrixPlace&, std::span<const float>) override {}
};

std::vector<float> Normal(int64_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = normal(random);
  return values;
}

/// Random weights and the memory that they lie in.
struct Matrix {
  Matrix(DType type, int64_t rows, int64_t cols, uint32_t seed)
      : bytes(static_cast<size_t>(*BytesOf(type, rows * cols))),
        view{.type = type, .rows = rows, .cols = cols, .row_stride = *BytesOf(type, cols)} {
    Quantize(type, Normal(rows * cols, seed).data(), rows * cols, nullptr, bytes.data());
    view.data = bytes.data();
  }
  std::vector<std::byte> bytes;
  WeightMatrix view;
};

// A tile that is brought to down's form in the cache gives the bits of the whole matrix: where the
// set's form has slices, that is what happens without an observer (scalar, AMX).
TEST(FeedForward, TilesInTheCacheGiveTheSameBits) {
  constexpr int64_t kDim = 1024, kFfn = 224, kTokens = 21;  // Two tiles and a part, ragged panels.
  const std::vector<float> x = Normal(kTokens * kDim, 1), bias = Normal(kFfn, 2);
  std::vector<int32_t> tokens(kTokens);
  std::iota(tokens.begin(), tokens.end(), 0);
  for (const DType type : {DType::kF32, DType::kQ8_0}) {
    const Matrix gate(type, kFfn, kDim, 3), up(type, kFfn, kDim, 4), down(type, kDim, kFfn, 5);
    for (const KernelSet* kernels : AllKernelSets()) {
      if (!kernels->usable()) continue;
      ThreadPool threads(3);
      AdapterTerms adapters({}, 1, *kernels, threads, kTokens);
      FeedForward feed_forward({}, kDim, adapters, *kernels, threads);
      WeightTypes types;
      types.Add(type);
      FeedForward::Room room;
      const std::array demands = {FeedForward::Demand{
          .tasks = 1, .rows = 2 * kTokens, .ffn = kFfn, .input_types = types, .down_types = types}};
      room.Include(demands, *kernels, kDim);
      feed_forward.Reserve(room);
      ActivationRows input(*kernels);
      input.Reserve(kTokens, kDim, types);
      input.Begin(kTokens, kDim, types);
      input.Convert(threads, [&](int64_t t) { return x.data() + t * kDim; });

      const auto run = [&](InputObserver* observer) {
        std::vector<float> out(static_cast<size_t>(kTokens * kDim));
        const std::array tasks = {FeedForwardTask{.weights = {.gate = gate.view,
                                                              .up = up.view,
                                                              .down = down.view,
                                                              .gate_bias = bias,
                                                              .up_bias = bias},
                                                  .tokens = tokens,
                                                  .out = out.data()}};
        feed_forward.RunGates(tasks, input, x.data(), observer);
        feed_forward.RunDowns(tasks);
        return out;
      };
      Nobody nobody;
      EXPECT_EQ(run(nullptr), run(&nobody)) << kernels->name << ' ' << NameOf(type);
    }
  }
}

}  // namespace
}  // namespace moxie
