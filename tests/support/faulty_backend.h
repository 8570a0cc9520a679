#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "memory/read_backend.h"

namespace moxie::testing {

/// What goes wrong between a disk and a reader: blocks first, first + every, ..., `count` of them.
struct Faults {
  int first = 0;
  int every = 1;
  int count = 1 << 30;
  int64_t result = 0;          ///< given instead of the block's own; 0: leave it
  int64_t shorten_to = 0;      ///< read only so much of it; 0: all
  int refusal = 0;             ///< given by Start instead of taking the block; 0: take it
  std::string_view only = {};  ///< the backend concerned; empty: all
  bool newest_first = false;   ///< blocks come only where they are waited for, last to first

  int seen = 0, injected = 0;  ///< so far
};

/// A backend with faults in front of a real one.
class FaultyBackend final : public ReadBackend {
 public:
  FaultyBackend(std::unique_ptr<ReadBackend> backend, Faults& faults)
      : backend_(std::move(backend)), faults_(faults) {}

  std::string_view name() const override { return backend_->name(); }
  void ExpectFiles(std::span<const int> fds) override { backend_->ExpectFiles(fds); }
  void ExpectMemory(std::span<std::byte> memory, int64_t piece_bytes) override {
    backend_->ExpectMemory(memory, piece_bytes);
  }

  int Start(const Block& block) override {
    const bool counts = faults_.only.empty() || faults_.only == name();
    if (faults_.refusal == 0 || !counts || !Strikes()) {
      Block taken = block;
      if (faults_.shorten_to > 0 && counts && Strikes())
        taken.bytes = std::min(taken.bytes, faults_.shorten_to);
      const int refused = backend_->Start(taken);
      if (refused == 0 && faults_.newest_first) order_.push_back(taken.index);
      return refused;
    }
    return faults_.refusal;
  }

  int Take(Done& done, bool wait) override {
    const int taken = faults_.newest_first ? TakeNewest(done, wait) : backend_->Take(done, wait);
    const bool counts = faults_.only.empty() || faults_.only == name();
    if (taken == 1 && faults_.result != 0 && counts && Strikes()) done.result = faults_.result;
    return taken;
  }

 private:
  int TakeNewest(Done& done, bool wait) {
    if (!wait) return 0;
    while (held_.size() < order_.size()) {
      const int taken = backend_->Take(held_.emplace_back(), true);
      if (taken < 0) return taken;
    }
    const auto newest = std::ranges::find(held_, order_.back(), &Done::index);
    done = *newest;
    held_.erase(newest);
    order_.pop_back();
    return 1;
  }

  bool Strikes() {
    const int turn = faults_.seen++ - faults_.first;
    if (turn < 0 || turn % faults_.every != 0 || turn / faults_.every >= faults_.count)
      return false;
    ++faults_.injected;
    return true;
  }

  std::unique_ptr<ReadBackend> backend_;
  Faults& faults_;
  std::vector<int32_t> order_;  ///< of blocks that were started, where the newest comes first
  std::vector<Done> held_;
};

}  // namespace moxie::testing
