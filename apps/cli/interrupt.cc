#include "interrupt.h"

#include <csignal>

namespace moxie::cli {
namespace {

volatile std::sig_atomic_t interrupted = 0;  // Signal handlers reach nothing but globals.

void Note(int /*signal*/) { interrupted = 1; }

void Handle(void (*handler)(int), int flags) {
  struct sigaction action {};
  action.sa_handler = handler;
  action.sa_flags = flags;
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

}  // namespace

InterruptGuard::InterruptGuard() {
  interrupted = 0;
  // SA_RESETHAND: the second signal finds the default action.
  Handle(Note, static_cast<int>(SA_RESETHAND));
}

InterruptGuard::~InterruptGuard() { Handle(SIG_DFL, 0); }

bool InterruptGuard::Interrupted() { return interrupted != 0; }

}  // namespace moxie::cli
