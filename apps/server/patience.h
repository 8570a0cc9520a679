#pragma once

#include <chrono>
#include <new>
#include <thread>

namespace moxie::server {

/// Makes a call that needs a few bytes of memory, and that changes nothing where there are none,
/// again until there are: somebody waits for what it does, and would wait for ever.
/// Throws std::bad_alloc after a second without.
template <class Call>
void WithPatience(Call call) {
  constexpr int kTries = 100;
  for (int tries = 1;; ++tries) {
    try {
      return call();
    } catch (const std::bad_alloc&) {
      if (tries == kTries) throw;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
}

}  // namespace moxie::server
