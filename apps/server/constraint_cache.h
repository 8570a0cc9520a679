#pragma once

#include <functional>
#include <list>
#include <mutex>
#include <string>
#include <utility>

#include "moxie/constraint.h"

namespace moxie::server {

/// The constraints used most recently: clients send the same schema and tools with every request,
/// and a constraint that is kept has its masks too. Safe to use concurrently.
class ConstraintCache {
 public:
  using Compile = std::function<Result<ConstraintPtr>()>;

  /// The constraint that `key` stands for, compiled where it is not there. Errors are not kept.
  Result<ConstraintPtr> Get(const std::string& key, const Compile& compile) {
    if (ConstraintPtr kept = Find(key)) return kept;
    MOXIE_TRY_ASSIGN(ConstraintPtr constraint, compile());
    if (ConstraintPtr kept = Find(key)) return kept;  // Of another thread, with its masks.
    const std::lock_guard lock(mutex_);
    kept_.emplace_front(key, constraint);
    if (kept_.size() > kMost) kept_.pop_back();
    return constraint;
  }

 private:
  ConstraintPtr Find(const std::string& key) {
    const std::lock_guard lock(mutex_);
    for (auto kept = kept_.begin(); kept != kept_.end(); ++kept) {
      if (kept->first != key) continue;
      kept_.splice(kept_.begin(), kept_, kept);
      return kept->second;
    }
    return nullptr;
  }

  std::mutex mutex_;
  static constexpr size_t kMost = 16;                      // Each may have 8 MiB of masks.
  std::list<std::pair<std::string, ConstraintPtr>> kept_;  // Most recent first.
};

}  // namespace moxie::server
