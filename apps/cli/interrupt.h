#pragma once

namespace moxie::cli {

/// While one of these lives, Ctrl-C (SIGINT) and SIGTERM set a flag instead of ending the program;
/// a second Ctrl-C ends it at once. One at a time.
class InterruptGuard {
 public:
  InterruptGuard();
  ~InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;

  /// Whether a signal has come since the guard was made.
  static bool Interrupted();
};

}  // namespace moxie::cli
