#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine/running_request.h"

namespace moxie {

/// Requests that wait to be started, in the order in which they should be: by priority (lower
/// first), then so that users are served equally, then by arrival.
///
/// Equally means in tokens computed, prompts' and answers' (the virtual token counter: Sheng et
/// al., Fairness in Serving Large Language Models, OSDI '24). Each user has a count of them; who
/// has the least is next. One who comes (back) with nothing under way starts at no less than the
/// least count of those who have: idle time is no credit, and many requests buy no larger part.
/// Takes memory in Push alone, which changes nothing where there is none. Not thread-safe.
class WaitingQueue {
 public:
  void Push(std::unique_ptr<RunningRequest> request);

  /// The one that should start next, or null where none waits.
  RunningRequest* Next() const;
  /// Takes one out of the queue; it stays its user's until Leave.
  std::unique_ptr<RunningRequest> Take(const RunningRequest& request);

  /// Counts tokens that were computed for a user.
  void Charge(const std::string& user, int64_t tokens);
  /// A request that was pushed is finished.
  void Leave(const std::string& user);

  /// Appends all for which `wanted` is true to `out`, which has room for them.
  void TakeIf(const std::function<bool(const RunningRequest&)>& wanted,
              std::vector<std::unique_ptr<RunningRequest>>& out);

  int64_t size() const { return static_cast<int64_t>(waiting_.size()); }

 private:
  struct User {
    int64_t served = 0;    ///< tokens
    int64_t requests = 0;  ///< waiting and running
  };

  int64_t LeastServed() const;

  std::vector<std::unique_ptr<RunningRequest>> waiting_;  // In order of arrival.
  std::map<std::string, User, std::less<>> users_;
};

}  // namespace moxie
