#include "forward/input_observer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <tuple>
#include <vector>

#include "quant/dequantize.h"
#include "support/golden.h"

namespace moxie {
namespace {

using namespace moxie::testing;
using Rows = std::vector<std::vector<float>>;

/// Writes down all rows, and where each token of a mixture goes.
class Recorder final : public InputObserver, public RoutingObserver {
 public:
  void OnInput(const MatrixPlace& place, std::span<const float> row) override {
    seen_[{place.layer, place.role, place.expert}].emplace_back(row.begin(), row.end());
  }
  void OnRouting(int64_t layer, std::span<const float> /*logits*/, std::span<const int32_t> ids,
                 std::span<const float> /*weights*/) override {
    for (const int32_t id : ids) ++routed_[{layer, id}];
  }

  const Rows& Seen(int64_t layer, MatrixRole role, int32_t expert = kDenseExpert) {
    return seen_[{layer, role, expert}];
  }
  size_t Routed(int64_t layer, int32_t expert) { return routed_[{layer, expert}]; }

 private:
  std::map<std::tuple<int64_t, MatrixRole, int32_t>, Rows> seen_;
  std::map<std::pair<int64_t, int32_t>, size_t> routed_;
};

/// W x in double precision.
std::vector<double> Product(const WeightMatrix& w, const std::vector<float>& x) {
  std::vector<double> out;
  std::vector<float> row(static_cast<size_t>(w.cols));
  for (int64_t r = 0; r < w.rows; ++r) {
    Dequantize(w.type, w.row(r), w.cols, row.data());
    double sum = 0;
    for (size_t c = 0; c < row.size(); ++c) sum += static_cast<double>(row[c]) * x[c];
    out.push_back(sum);
  }
  return out;
}

void ExpectClose(const std::vector<float>& got, const std::vector<double>& want) {
  ASSERT_EQ(got.size(), want.size());
  double largest = 0;
  for (const double value : want) largest = std::max(largest, std::abs(value));
  for (size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(got[i], want[i], 1e-5 * largest);
}

std::unique_ptr<LoadedModel> MustLoad(const char* name) {
  auto model = LoadModel(SourceDir() / "tests/golden/models" / name);
  if (model) return std::move(*model);
  ADD_FAILURE() << model.error().message;
  return nullptr;
}

Recorder Record(const LoadedModel& model) {
  Runner runner(model, {});
  Recorder recorder;
  const std::vector<int32_t> ids = {1, 5, 9, 20, 33, 7, 8, 100, 101, 30, 31, 5, 5, 6, 250, 2};
  runner.Run(runner.NewSequence(), ids, {.routing = &recorder, .inputs = &recorder});
  return recorder;
}

// silu(gate x) * up x is what an expert's down matrix gets.
void CheckFeedForward(const FeedForwardWeights& w, const Rows& in, const Rows& activated) {
  ASSERT_EQ(in.size(), activated.size());
  for (size_t t = 0; t < in.size(); ++t) {
    std::vector<double> want = Product(w.gate.matrix, in[t]);
    const std::vector<double> up = Product(w.up.matrix, in[t]);
    for (size_t i = 0; i < want.size(); ++i) want[i] *= up[i] / (1 + std::exp(-want[i]));
    ExpectClose(activated[t], want);
  }
}

TEST(InputObserver, SeesEachExpertsInputsAsOftenAsItIsChosen) {
  const auto model = MustLoad("olmoe");
  Recorder recorder = Record(*model);
  size_t reached = 0;
  for (int64_t layer = 0; layer < std::ssize(model->weights.layers); ++layer) {
    const auto& experts = model->weights.layers[static_cast<size_t>(layer)].experts;
    for (int32_t e = 0; e < std::ssize(experts); ++e) {
      const Rows& in = recorder.Seen(layer, MatrixRole::kGateUp, e);
      ASSERT_EQ(in.size(), recorder.Routed(layer, e)) << "layer " << layer << " expert " << e;
      CheckFeedForward(experts[static_cast<size_t>(e)], in,
                       recorder.Seen(layer, MatrixRole::kDown, e));
      reached += in.empty() ? 0 : 1;
    }
  }
  EXPECT_GT(reached, 4u);
}

TEST(InputObserver, SeesLatentAttentionsAndTheSharedExpertsInputs) {
  const auto model = MustLoad("deepseekv3");
  Recorder recorder = Record(*model);
  for (int64_t layer = 0; layer < std::ssize(model->weights.layers); ++layer) {
    const LayerWeights& w = model->weights.layers[static_cast<size_t>(layer)];
    const Rows& in = recorder.Seen(layer, MatrixRole::kAttention);
    const Rows& queries = recorder.Seen(layer, MatrixRole::kQueries);
    ASSERT_EQ(in.size(), 16u);
    ASSERT_EQ(queries.size(), 16u);
    for (size_t t = 0; t < in.size(); ++t) {
      std::vector<double> want = Product(w.attention.q_a, in[t]);
      double squares = 0;
      for (const double value : want) squares += value * value;
      const double scale =
          1 / std::sqrt(squares / static_cast<double>(want.size()) + model->config.norm_eps);
      for (size_t i = 0; i < want.size(); ++i) want[i] *= scale * w.attention.q_a_norm[i];
      ExpectClose(queries[t], want);
    }
    if (w.shared.gate.matrix.empty()) continue;
    const Rows& shared = recorder.Seen(layer, MatrixRole::kGateUp, kSharedExpert);
    EXPECT_EQ(shared.size(), 16u);
    CheckFeedForward(w.shared, shared, recorder.Seen(layer, MatrixRole::kDown, kSharedExpert));
  }
}

}  // namespace
}  // namespace moxie
