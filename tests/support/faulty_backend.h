#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string_view>
#include <utility>

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
      return backend_->Start(taken);
    }
    return faults_.refusal;
  }

  int Take(Done& done, bool wait) override {
    const int taken = backend_->Take(done, wait);
    const bool counts = faults_.only.empty() || faults_.only == name();
    if (taken == 1 && faults_.result != 0 && counts && Strikes()) done.result = faults_.result;
    return taken;
  }

 private:
  bool Strikes() {
    const int turn = faults_.seen++ - faults_.first;
    if (turn < 0 || turn % faults_.every != 0 || turn / faults_.every >= faults_.count)
      return false;
    ++faults_.injected;
    return true;
  }

  std::unique_ptr<ReadBackend> backend_;
  Faults& faults_;
};

}  // namespace moxie::testing
