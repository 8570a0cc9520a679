#include <gtest/gtest.h>

#include <algorithm>
#include <list>
#include <random>
#include <set>

#include "moxie/routing.h"

namespace moxie {
namespace {

/// Tokens that choose `used` of `experts` in each layer, each choice of the token before kept with
/// probability `repeats`.
RoutingTrace RandomTrace(int64_t tokens, int64_t layers, int64_t experts, int64_t used,
                         double repeats, uint32_t seed) {
  std::mt19937 random(seed);
  RoutingTrace trace{.tokens = tokens, .experts = experts, .experts_per_token = used, .layers = {}};
  for (int64_t layer = 0; layer < layers; ++layer) {
    RoutingTrace::Layer& out = trace.layers.emplace_back();
    out.layer = layer;
    std::vector<int32_t> last;
    for (int64_t token = 0; token < tokens; ++token) {
      std::vector<int32_t> now;
      for (const int32_t expert : last) {
        if (std::bernoulli_distribution(repeats)(random)) now.push_back(expert);
      }
      while (std::ssize(now) < used) {
        const auto expert = static_cast<int32_t>(random() % static_cast<uint32_t>(experts));
        if (std::ranges::find(now, expert) == now.end()) now.push_back(expert);
      }
      out.experts.insert(out.experts.end(), now.begin(), now.end());
      last = now;
    }
  }
  return trace;
}

double RateOf(const std::vector<CacheReplay>& replays, const std::string& policy) {
  const auto found = std::ranges::find(replays, policy, &CacheReplay::policy);
  EXPECT_NE(found, replays.end());
  return found->hit_rate;
}

/// What is asked for, in order, where each token uses one expert a layer.
std::vector<int> RequestsOf(const RoutingTrace& trace) {
  std::vector<int> requests;
  for (size_t token = 0; token < static_cast<size_t>(trace.tokens); ++token) {
    for (size_t layer = 0; layer < trace.layers.size(); ++layer)
      requests.push_back(static_cast<int>(layer) * 100 + trace.layers[layer].experts[token]);
  }
  return requests;
}

/// The most hits that any choice of whom to give up can have, by trying all.
int MostHits(const std::vector<int>& requests, size_t at, const std::set<int>& cache, size_t room) {
  if (at == requests.size()) return 0;
  const int wanted = requests[at];
  if (cache.contains(wanted)) return 1 + MostHits(requests, at + 1, cache, room);
  std::set<int> with = cache;
  with.insert(wanted);
  if (cache.size() < room) return MostHits(requests, at + 1, with, room);
  int most = 0;
  for (const int given_up : cache) {
    std::set<int> without = with;
    without.erase(given_up);
    most = std::max(most, MostHits(requests, at + 1, without, room));
  }
  return most;
}

TEST(CacheReplayTest, BeladyIsTheBestOfAllChoices) {
  for (uint32_t seed = 0; seed < 20; ++seed) {
    const RoutingTrace trace = RandomTrace(6, 2, 4, 1, 0.2, seed);
    const std::vector<int> requests = RequestsOf(trace);
    for (const int64_t room : {1, 2, 3}) {
      const int most = MostHits(requests, 0, {}, static_cast<size_t>(room));
      const double rate = RateOf(ReplayRouting(trace, room), "Belady");
      EXPECT_DOUBLE_EQ(rate * static_cast<double>(requests.size()), most) << seed << ", " << room;
    }
  }
}

TEST(CacheReplayTest, LruIsTheListThatItsNameSays) {
  const RoutingTrace trace = RandomTrace(200, 3, 8, 1, 0.3, 1);
  for (const size_t room : {2u, 4u, 7u, 12u}) {
    std::list<int> recent;
    int hits = 0;
    for (const int wanted : RequestsOf(trace)) {
      const auto found = std::ranges::find(recent, wanted);
      if (found != recent.end()) {
        ++hits;
        recent.erase(found);
      } else if (recent.size() == room) {
        recent.pop_back();
      }
      recent.push_front(wanted);
    }
    const double rate = RateOf(ReplayRouting(trace, static_cast<int64_t>(room)), "LRU");
    EXPECT_DOUBLE_EQ(rate * 600, hits) << room;
  }
}

TEST(CacheReplayTest, NothingExceedsBelady) {
  for (const double repeats : {0.0, 0.3, 0.9}) {
    const RoutingTrace trace = RandomTrace(100, 8, 8, 2, repeats, 2);
    for (const int64_t room : {2, 7, 16, 40, 64}) {
      const auto replays = ReplayRouting(trace, room);
      for (const CacheReplay& replay : replays) EXPECT_LE(replay.hit_rate, replays.back().hit_rate);
    }
  }
}

// Where each token asks for the same experts and one more than fit, LRU always has just given up
// what comes next. Two slots change, the others' experts stay.
TEST(CacheReplayTest, ARoundThatDoesNotFitKeepsAPart) {
  const RoutingTrace trace = RandomTrace(100, 32, 8, 2, 1.0, 3);
  for (const int64_t room : {20, 40, 60}) {
    const auto replays = ReplayRouting(trace, room);
    EXPECT_EQ(RateOf(replays, "LRU"), 0);
    EXPECT_GE(replays[0].hit_rate, 0.98 * static_cast<double>(room - 2) / 64) << room;
  }
}

// Independent routing finds the cached share, whatever the policy; a policy must not find less.
TEST(CacheReplayTest, IndependentRoutingFindsTheCachedShare) {
  const RoutingTrace trace = RandomTrace(400, 32, 8, 2, 0.0, 4);
  for (const int64_t room : {64, 104, 160}) {
    const double share = static_cast<double>(room) / 256;
    EXPECT_GE(ReplayRouting(trace, room)[0].hit_rate, share - 0.02) << room;
  }
}

TEST(RoutingTraceTest, TextAndBack) {
  RoutingTrace trace = RandomTrace(5, 3, 8, 2, 0.3, 5);
  for (RoutingTrace::Layer& layer : trace.layers) layer.weights.assign(10, 0.5f);
  const auto again = ParseRoutingTrace(FormatRoutingTrace(trace), "trace");
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(again->tokens, 5);
  EXPECT_EQ(again->experts, 8);
  EXPECT_EQ(again->experts_per_token, 2);
  ASSERT_EQ(again->layers.size(), 3u);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(again->layers[i].experts, trace.layers[i].experts);
    EXPECT_EQ(again->layers[i].weights, trace.layers[i].weights);
  }
}

TEST(RoutingTraceTest, WhatIsNoTraceIsRefused) {
  for (const char* text :
       {"", "[]", "{}", R"({"layers":[]})", R"({"layers":[{}]})", R"({"layers":[{"experts":[]}]})",
        R"({"layers":[{"experts":[[]]}]})", R"({"layers":[{"experts":[[0],[0,1]]}]})",
        R"({"layers":[{"experts":[[-1]]}]})", R"({"layers":[{"experts":[[65536]]}]})",
        R"({"layers":[{"experts":[["a"]]}]})", R"({"layers":[{"experts":[[0.5]]}]})",
        R"({"layers":[{"experts":[[0]],"weights":[[0,1]]}]})",
        R"({"layers":[{"experts":[[0]]},{"experts":[[0],[1]]}]})",
        R"({"layers":[{"experts":[[3]]}],"expert_count":3})", R"({"layers":[{"experts":[[3,3]]}]})",
        R"({"layers":[{"experts":[[3]]}],"expert_count":1e9})"}) {
    const auto trace = ParseRoutingTrace(text, "t.json");
    ASSERT_FALSE(trace) << text;
    EXPECT_TRUE(trace.error().message.starts_with("t.json: ")) << trace.error().message;
  }
}

}  // namespace
}  // namespace moxie
