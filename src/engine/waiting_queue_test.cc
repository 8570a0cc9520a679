#include "engine/waiting_queue.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "support/fake_tokenizer.h"

namespace moxie {
namespace {

class Queue : public ::testing::Test {
 protected:
  void Push(const std::string& user, int32_t priority = 0) {
    Request request;
    request.prompt = {1};
    request.user = user;
    request.priority = priority;
    queue_.Push(std::make_unique<RunningRequest>(
        ++last_id_, request, nullptr, nullptr, tokenizer_,
        *Sampler::Create({}, tokenizer_.vocab_size(), request.prompt), 100));
  }

  /// Starts what is next and computes `tokens` of it to the end.
  std::pair<std::string, RequestId> Serve(int64_t tokens) {
    const auto taken = queue_.Take(*queue_.Next());
    const std::string user = taken->request().user;
    queue_.Charge(user, tokens);
    queue_.Leave(user);
    return {user, taken->id()};
  }

  testing::FakeTokenizer tokenizer_;
  WaitingQueue queue_;
  RequestId last_id_ = 0;
};

TEST_F(Queue, OneOfAUserIsNextAfterAHundredOfAnother) {
  for (int i = 0; i < 100; ++i) Push("many");
  EXPECT_EQ(Serve(10).first, "many");
  Push("one");
  EXPECT_EQ(Serve(10).first, "many");  // Both had the same: who came first.
  EXPECT_EQ(Serve(10).first, "one");
  EXPECT_EQ(queue_.size(), 98);
}

/// The bound of the paper: what two users with waiting requests were served
/// differs by no more than the largest request, here of one at a time.
TEST_F(Queue, UsersWithWaitingRequestsAreServedEqually) {
  constexpr int kRequests = 200;
  constexpr int64_t kLargest = 300;
  const std::map<std::string, int64_t> cost = {{"small", 7}, {"middle", 60}, {"large", kLargest}};
  for (int i = 0; i < kRequests; ++i) {
    for (const auto& [user, tokens] : cost) Push(user);
  }
  std::map<std::string, int64_t> served;
  for (int i = 0; i < kRequests; ++i) {
    const std::string user = Serve(cost.at(queue_.Next()->request().user)).first;
    served[user] += cost.at(user);
    for (const auto& [a, x] : served) {
      for (const auto& [b, y] : served) EXPECT_LE(std::abs(x - y), kLargest) << a << " " << b;
    }
  }
  EXPECT_EQ(served.size(), 3U);
}

TEST_F(Queue, IdlenessEarnsNothingAndABurstIsRemembered) {
  for (int i = 0; i < 4; ++i) Push("steady");
  Push("burst");
  Serve(10);    // steady
  Serve(1000);  // burst, which then is idle
  Serve(10);    // steady
  Push("burst");
  EXPECT_EQ(Serve(10).first, "steady");  // It had 1000.
  Push("new");                           // Starts at steady's count.
  EXPECT_EQ(Serve(10).first, "steady");
  EXPECT_EQ(Serve(10).first, "new");
  EXPECT_EQ(Serve(10).first, "burst");
  EXPECT_EQ(queue_.Next(), nullptr);
}

TEST_F(Queue, LowerPrioritiesComeFirst) {
  Push("a");
  Push("a", 5);
  Push("b", -1);
  Push("a", -1);
  Push("c");
  std::vector<RequestId> order;
  while (queue_.Next() != nullptr) order.push_back(Serve(1).second);
  EXPECT_EQ(order, (std::vector<RequestId>{3, 4, 5, 1, 2}));
}

}  // namespace
}  // namespace moxie
