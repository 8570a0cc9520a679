// The engine on the project's golden models: what it generates must be what Hugging Face generates,
// whatever runs beside it, however prompts are cut, and wherever their beginnings come from.
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>

#include "moxie/generate.h"
#include "support/source_dir.h"

namespace moxie {
namespace {

const std::string kModels = SourceDir() / "tests/golden/models/";

struct Greedy {
  std::vector<TokenId> prompt;
  std::vector<TokenId> ids;
};

std::vector<Greedy> GoldenGreedy(const std::string& name) {
  std::ifstream in(kModels + name + "/golden.json");
  const nlohmann::json golden = nlohmann::json::parse(in);
  std::vector<Greedy> all;
  for (const auto& item : golden["greedy"]) all.push_back({item["prompt_ids"], item["ids"]});
  return all;
}

std::unique_ptr<Model> Open(const std::string& name, int threads = 1, int parallel = 1,
                            int64_t batch_tokens = 512) {
  ModelOptions options;
  options.context = 128;
  options.threads = threads;
  options.parallel = parallel;
  options.batch_tokens = batch_tokens;
  options.batch_invariant = true;  // What runs together must not matter by a bit.
  Result<std::unique_ptr<Model>> model = Model::Open(kModels + name, options);
  EXPECT_TRUE(model) << model.error().message;
  return model ? std::move(*model) : nullptr;
}

Request RequestFor(const Greedy& golden) {
  Request request;
  request.prompt = golden.prompt;
  request.sampling.temperature = 0;
  request.max_tokens = static_cast<int64_t>(golden.ids.size());
  request.end_at_stop_tokens = false;
  return request;
}

class EngineOnModel : public ::testing::TestWithParam<const char*> {};

TEST_P(EngineOnModel, GeneratesTheGoldenIdsHoweverThePromptIsCut) {
  for (const int64_t batch_tokens : {1, 3, 512}) {
    SCOPED_TRACE(batch_tokens);
    const auto model = Open(GetParam(), 2, 1, batch_tokens);
    ASSERT_NE(model, nullptr);
    Engine engine(*model);
    for (const Greedy& golden : GoldenGreedy(GetParam())) {
      const Result<Completion> answer = engine.Run(RequestFor(golden));
      ASSERT_TRUE(answer) << answer.error().message;
      EXPECT_EQ(answer->ids, golden.ids);
      EXPECT_EQ(answer->finish_reason, FinishReason::kLength);
      EXPECT_EQ(answer->prompt_tokens, static_cast<int64_t>(golden.prompt.size()));
    }
  }
}

TEST_P(EngineOnModel, SaysHowFarAPromptIs) {
  const auto model = Open(GetParam(), 1, 1, 3);
  ASSERT_NE(model, nullptr);
  Engine engine(*model);
  Request request = RequestFor(GoldenGreedy(GetParam()).front());
  const auto tokens = static_cast<int64_t>(request.prompt.size());
  std::vector<int64_t> done;
  ASSERT_TRUE(engine.Run(request, [&](const Event& event) {
    if (event.token < 0 && event.text.empty()) done.push_back(event.prompt_done);
    if (event.token >= 0) {
      EXPECT_EQ(event.prompt_done, tokens);
    }
    return true;
  }));
  for (size_t i = 0; i < done.size(); ++i) EXPECT_EQ(done[i], static_cast<int64_t>(3 * (i + 1)));
  EXPECT_EQ(std::ssize(done), (tokens - 1) / 3);
}

TEST_P(EngineOnModel, ManyRequestsAtOnceDisturbNobody) {
  const auto model = Open(GetParam(), 3, 3, 7);
  ASSERT_NE(model, nullptr);
  Engine engine(*model);
  const std::vector<Greedy> golden = GoldenGreedy(GetParam());
  std::map<RequestId, const Greedy*> expected;
  int finished = 0;
  for (int round = 0; round < 4; ++round) {
    for (const Greedy& item : golden) {
      const Result<RequestId> id =
          engine.Submit(RequestFor(item), {}, [&](RequestId which, Result<Completion> answer) {
            ASSERT_TRUE(answer) << answer.error().message;
            EXPECT_EQ(answer->ids, expected.at(which)->ids);
            ++finished;
          });
      ASSERT_TRUE(id);
      expected[*id] = &item;
    }
  }
  EXPECT_FALSE(engine.idle());
  for (int step = 0; step < 10000 && !engine.idle(); ++step) engine.Step();
  EXPECT_TRUE(engine.idle());
  EXPECT_EQ(finished, static_cast<int>(expected.size()));
}

TEST_P(EngineOnModel, ANextTurnReusesWhatIsKnownAndSaysTheSame) {
  const Greedy golden = GoldenGreedy(GetParam()).front();
  Request next = RequestFor(golden);
  next.prompt.insert(next.prompt.end(), golden.ids.begin(), golden.ids.end() - 4);
  next.max_tokens = 4;
  const std::vector<TokenId> want(golden.ids.end() - 4, golden.ids.end());

  const auto model = Open(GetParam());
  ASSERT_NE(model, nullptr);
  Engine engine(*model);
  ASSERT_TRUE(engine.Run(RequestFor(golden)));
  const Result<Completion> answer = engine.Run(next);
  ASSERT_TRUE(answer) << answer.error().message;
  EXPECT_EQ(answer->ids, want);
  // Keys and values of the first answer's last token were never computed; a prompt that goes back
  // further than a window still holds starts anew.
  if (std::string(GetParam()) != "mistral-window" && std::string(GetParam()) != "gptoss") {
    EXPECT_EQ(answer->reused_tokens, answer->prompt_tokens - 1);
  }
}

INSTANTIATE_TEST_SUITE_P(All, EngineOnModel,
                         ::testing::Values("mixtral", "mistral-window", "llama3-rope", "qwen2moe",
                                           "qwen3", "gptoss", "deepseekv3"),
                         [](const auto& model) {
                           std::string name = model.param;
                           std::erase(name, '-');
                           return name;
                         });

TEST(Engine, RoutingIsCountedForEachRequestAlone) {
  const auto model = Open("mixtral", 1, 2);
  ASSERT_NE(model, nullptr);
  const Greedy golden = GoldenGreedy("mixtral").front();
  Request watched = RequestFor(golden);
  watched.observe_routing = true;
  const Result<Completion> alone = Engine(*model).Run(watched);
  ASSERT_TRUE(alone);

  Engine crowded(*model);
  std::optional<Completion> together;
  ASSERT_TRUE(crowded.Submit(RequestFor(golden), {}, {}));
  ASSERT_TRUE(crowded.Submit(
      watched, {}, [&](RequestId, Result<Completion> answer) { together = std::move(*answer); }));
  while (!crowded.idle()) crowded.Step();

  // Every token but the last one generated has been through the model.
  const auto tokens = static_cast<int64_t>(golden.prompt.size() + golden.ids.size() - 1);
  for (const Completion& answer : {*alone, *together}) {
    EXPECT_EQ(answer.routing.tokens, tokens);
    for (const auto& layer : answer.routing.chosen)
      EXPECT_EQ(std::accumulate(layer.begin(), layer.end(), int64_t{0}), 2 * tokens);
  }
  EXPECT_EQ(alone->routing.chosen, together->routing.chosen);
}

TEST(Engine, RequestsThatBeginAlikeComputeTheBeginningOnce) {
  constexpr int kUsers = 4;
  const auto model = Open("mixtral", 1, kUsers, 16);
  ASSERT_NE(model, nullptr);
  std::vector<TokenId> beginning;
  for (TokenId id = 0; id < 70; ++id) beginning.push_back(3 + id % 50);
  const auto request = [&](TokenId user) {
    Request made;
    made.prompt = beginning;
    for (const TokenId id : {user + 60, 5, 9}) made.prompt.push_back(id);
    made.sampling.temperature = 0;
    made.max_tokens = 5;
    made.end_at_stop_tokens = false;
    return made;
  };
  std::vector<std::vector<TokenId>> alone;
  for (TokenId user = 0; user < kUsers; ++user) {
    const Result<Completion> answer = Engine(*model).Run(request(user));
    ASSERT_TRUE(answer);
    alone.push_back(answer->ids);
  }
  Engine engine(*model);
  for (int round = 0; round < 2; ++round) {
    for (TokenId user = 0; user < kUsers; ++user) {
      ASSERT_TRUE(engine.Submit(request(user), {}, [&, user](RequestId, Result<Completion> answer) {
        ASSERT_TRUE(answer);
        EXPECT_EQ(answer->ids, alone[static_cast<size_t>(user)]) << user;
      }));
    }
    while (!engine.idle()) engine.Step();
    // Pages of 32: of 73 tokens the first request computes all, the others what follows the second
    // page; in the second round only the last token of each.
    const EngineStats stats = engine.Stats();
    EXPECT_EQ(stats.prompt_tokens, 73 + 3 * (73 - 64) + round * kUsers);
    EXPECT_EQ(stats.reused_tokens, 3 * 64 + round * kUsers * 72);
    // The two first pages are there once; each request has one of its own.
    EXPECT_EQ(stats.kv_pages_used, 2 + kUsers * (round + 1));
  }
}

TEST(Engine, CancellingKeepsWhatWasSaid) {
  const auto model = Open("mixtral");
  ASSERT_NE(model, nullptr);
  Engine engine(*model);
  const Greedy golden = GoldenGreedy("mixtral").front();
  int tokens = 0;
  const Result<Completion> answer = engine.Run(
      RequestFor(golden), [&](const Event& event) { return event.token < 0 || ++tokens < 3; });
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->finish_reason, FinishReason::kCancelled);
  EXPECT_EQ(answer->ids, std::vector<TokenId>(golden.ids.begin(), golden.ids.begin() + 3));
  EXPECT_TRUE(engine.idle());
}

TEST(Engine, CancelledWhileWaitingItNeverRuns) {
  const auto model = Open("mixtral");
  ASSERT_NE(model, nullptr);
  Engine engine(*model);
  const Greedy golden = GoldenGreedy("mixtral").front();
  std::vector<FinishReason> reasons;
  const auto note = [&](RequestId, Result<Completion> answer) {
    reasons.push_back(answer->finish_reason);
  };
  ASSERT_TRUE(engine.Submit(RequestFor(golden), {}, note));
  const Result<RequestId> second = engine.Submit(RequestFor(golden), {}, note);
  ASSERT_TRUE(second);
  engine.Step();
  engine.Cancel(*second);
  while (!engine.idle()) engine.Step();
  EXPECT_EQ(reasons, (std::vector{FinishReason::kCancelled, FinishReason::kLength}));
}

TEST(Engine, ThePartsOfAStreamAreTheText) {
  const auto model = Open("mixtral");
  ASSERT_NE(model, nullptr);
  Engine engine(*model);
  std::string streamed;
  const Result<Completion> answer =
      engine.Run(RequestFor(GoldenGreedy("mixtral").front()), [&](const Event& event) {
        streamed += event.text;
        return true;
      });
  ASSERT_TRUE(answer);
  EXPECT_EQ(streamed, answer->text);
}

TEST(Engine, RefusesWhatItCannotRun) {
  const auto model = Open("mixtral");
  ASSERT_NE(model, nullptr);
  Engine engine(*model);
  const auto refused = [&](std::vector<TokenId> prompt) {
    Request request;
    request.prompt = std::move(prompt);
    const Result<Completion> answer = engine.Run(request);
    return answer ? "" : answer.error().message;
  };
  EXPECT_EQ(refused({}), "the prompt has no tokens");
  EXPECT_NE(refused(std::vector<TokenId>(128, 5)).find("128 tokens"), std::string::npos);
  EXPECT_NE(refused({5, -1}).find("-1"), std::string::npos);
  EXPECT_NE(refused({5, 1 << 30}).find("outside the vocabulary"), std::string::npos);

  Request none = RequestFor(GoldenGreedy("mixtral").front());
  none.max_tokens = 0;
  const Result<Completion> answer = engine.Run(none);
  ASSERT_TRUE(answer);
  EXPECT_TRUE(answer->ids.empty());
}

TEST(Model, RefusesABudgetThatTheModelExceeds) {
  ModelOptions options;
  options.memory_bytes = 1000;
  const Result<std::unique_ptr<Model>> model = Model::Open(kModels + "mixtral", options);
  ASSERT_FALSE(model);
  EXPECT_EQ(model.error().code, ErrorCode::kOverBudget);
  options.memory_bytes = int64_t{1} << 40;
  EXPECT_TRUE(Model::Open(kModels + "mixtral", options));
}

}  // namespace
}  // namespace moxie
