// Weights that are packed for the kernels while they are loaded, as they are stored, and, of
// experts, streamed from disk: all give the same bits.
#include <gtest/gtest.h>

#include "engine/model_parts.h"
#include "moxie/generate.h"
#include "moxie/plan.h"
#include "moxie/quantize.h"
#include "support/random_mixture.h"
#include "support/temp_folder.h"

namespace moxie {
namespace {

using namespace moxie::testing;

struct Outcome {
  std::vector<float> logprobs;  // of the prompt's tokens, then of the answer's
  bool packed = false;          // an expert's matrix
  bool streamed = false;
};

Outcome OutcomeOf(const std::string& path, bool pack, int64_t memory_bytes) {
  Outcome run;
  ModelOptions options;
  options.threads = 2;
  options.context = 64;
  options.memory_bytes = memory_bytes;
  options.batch_invariant = true;
  options.pack_weights = pack;
  Result<std::unique_ptr<Model>> model = Model::Open(path, options);
  EXPECT_TRUE(model) << model.error().message;
  if (!model) return run;
  run.packed = (*model)->parts().weights.layers[0].experts[0].down.matrix.packed_rows > 0;
  run.streamed = (*model)->streams_experts();
  Engine engine(**model);
  Request request;
  request.prompt = {5, 6, 7, 8, 9, 10, 11};
  request.sampling.temperature = 0;
  request.max_tokens = 8;
  request.end_at_stop_tokens = false;
  request.top_logprobs = request.prompt_logprobs = 0;
  const auto done = engine.Run(request, [&](const Event& event) {
    for (const TokenLogprob& token : event.logprobs) run.logprobs.push_back(token.logprob);
    return true;
  });
  EXPECT_TRUE(done) << done.error().message;
  if (!done) return run;
  for (const auto& token : done->prompt_logprobs) {
    if (!token.empty()) run.logprobs.push_back(token.front().logprob);
  }
  return run;
}

TEST(Packing, ChangesNoBit) {
  TempFolder folder;
  const std::string whole = (folder / "f32.gguf").string();
  WriteRandomMixture(whole, {.dim = 256, .ffn = 512, .experts = 8});
  for (const char* type : {"q4_0", "q8_0", "q4_k", "q6_k"}) {
    SCOPED_TRACE(type);
    const std::string path = (folder / type).string() + ".gguf";
    ASSERT_TRUE(QuantizeModel(whole, path, {.type = type}));
    const Outcome stored = OutcomeOf(path, false, 0);
    const Outcome packed = OutcomeOf(path, true, 0);
    EXPECT_FALSE(stored.packed);
    EXPECT_EQ(packed.packed, BestKernelSet().packed_rows != nullptr);
    ASSERT_EQ(stored.logprobs.size(), 14u);
    EXPECT_EQ(packed.logprobs, stored.logprobs);
    ModelOptions ample;
    ample.threads = 2;
    ample.context = 64;
    ample.memory_bytes = int64_t{1} << 40;
    const ModelPlan plan = PlanModel(path, {""}, ample)->front();
    const Outcome streamed = OutcomeOf(path, true, (plan.least_bytes + plan.all_bytes) / 2);
    EXPECT_TRUE(streamed.streamed);
    EXPECT_EQ(streamed.logprobs, stored.logprobs);
  }
}

}  // namespace
}  // namespace moxie
