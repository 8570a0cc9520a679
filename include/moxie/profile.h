#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace moxie {

/// What a span of an engine's time went to. A pass holds its layers, a layer its parts.
enum class Part : uint8_t {
  kPass,       ///< one forward pass
  kLayer,      ///< one of its layers
  kAttention,  ///< in a layer: projections, and
  kContext,    ///< in there: what depends on the context, queries meeting keys and values
  kRouter,     ///< in a layer: scoring and choosing experts
  kExperts,    ///< in a layer: the chosen experts and the shared one
  kDense,      ///< in a layer: a feed-forward that is no mixture
  kHead,       ///< in a pass: the logits
  kSampling,   ///< after a pass: choosing tokens, and what follows from them
};

/// "pass", "layer", "attention", ...
std::string_view NameOf(Part part);

/// Where an engine's time went: spans of the thread that steps it, in the order of their ends.
/// Engine::Record fills it; an engine that records nothing spends nothing on it.
class Profile {
 public:
  struct Span {
    Part part = Part::kPass;
    int32_t layer = -1;    ///< -1: of no layer
    int64_t begin_ns = 0;  ///< since the Profile was made
    int64_t end_ns = 0;
  };

  int64_t Now() const {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start_).count();
  }
  void Add(const Span& span) { spans_.push_back(span); }
  std::span<const Span> spans() const { return spans_; }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point start_ = Clock::now();
  std::vector<Span> spans_;
};

/// Records the time from its creation to its end; nothing where `profile` is null.
class ScopedSpan {
 public:
  ScopedSpan(Profile* profile, Part part, int64_t layer = -1)
      : profile_(profile),
        span_{.part = part,
              .layer = static_cast<int32_t>(layer),
              .begin_ns = profile == nullptr ? 0 : profile->Now()} {}
  ~ScopedSpan() {
    if (profile_ == nullptr) return;
    span_.end_ns = profile_->Now();
    profile_->Add(span_);
  }
  ScopedSpan(const ScopedSpan&) = delete;
  ScopedSpan& operator=(const ScopedSpan&) = delete;

 private:
  Profile* profile_;
  Profile::Span span_;
};

}  // namespace moxie
