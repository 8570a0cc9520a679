#include "engine/waiting_queue.h"

#include <algorithm>
#include <limits>
#include <utility>

namespace moxie {

/// The least count of those who have requests; 0 where nobody has.
int64_t WaitingQueue::LeastServed() const {
  int64_t least = std::numeric_limits<int64_t>::max();
  for (const auto& [name, user] : users_) {
    if (user.requests > 0) least = std::min(least, user.served);
  }
  return least == std::numeric_limits<int64_t>::max() ? 0 : least;
}

void WaitingQueue::Push(std::unique_ptr<RunningRequest> request) {
  const int64_t least = LeastServed();
  waiting_.reserve(waiting_.size() + 1);
  User& user = users_[request->request().user];
  if (user.requests++ == 0) user.served = std::max(user.served, least);
  waiting_.push_back(std::move(request));
}

RunningRequest* WaitingQueue::Next() const {
  const auto rank = [&](const auto& waiting) {
    const Request& request = waiting->request();
    return std::pair(request.priority, users_.find(request.user)->second.served);
  };
  const auto best = std::ranges::min_element(waiting_, {}, rank);
  return best == waiting_.end() ? nullptr : best->get();
}

std::unique_ptr<RunningRequest> WaitingQueue::Take(const RunningRequest& request) {
  const auto place = std::ranges::find(waiting_, &request, &std::unique_ptr<RunningRequest>::get);
  std::unique_ptr<RunningRequest> taken = std::move(*place);
  waiting_.erase(place);
  return taken;
}

void WaitingQueue::Charge(const std::string& user, int64_t tokens) {
  const auto found = users_.find(user);
  if (found != users_.end()) found->second.served += tokens;
}

void WaitingQueue::Leave(const std::string& user) {
  --users_[user].requests;
  // Who would start at the least count anyway need not be remembered.
  const bool nobody =
      std::ranges::none_of(users_, [](const auto& entry) { return entry.second.requests > 0; });
  const int64_t least = LeastServed();
  std::erase_if(users_, [&](const auto& entry) {
    return entry.second.requests == 0 && (nobody || entry.second.served <= least);
  });
}

void WaitingQueue::TakeIf(const std::function<bool(const RunningRequest&)>& wanted,
                          std::vector<std::unique_ptr<RunningRequest>>& out) {
  for (auto& request : waiting_) {
    if (wanted(*request)) out.push_back(std::move(request));
  }
  std::erase(waiting_, nullptr);
}

}  // namespace moxie
