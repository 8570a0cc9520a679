#include <cstddef>
#include <cstdint>
#include <string_view>

#include "moxie/routing.h"

// What is read can be written and read again, and small traces can be replayed.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto trace = moxie::ParseRoutingTrace(text, "trace");
  if (!trace) {
    MOXIE_CHECK(trace.error().message.starts_with("trace: "));
    return 0;
  }
  const auto again = moxie::ParseRoutingTrace(moxie::FormatRoutingTrace(*trace), "again");
  MOXIE_CHECK(again && again->layers.size() == trace->layers.size());
  if (trace->tokens * trace->experts_per_token > 100 || trace->layers.size() > 10) return 0;
  const auto replays = moxie::ReplayRouting(*trace, trace->experts_per_token + 1);
  for (const auto& replay : replays) MOXIE_CHECK(replay.hit_rate <= replays.back().hit_rate);
  return 0;
}
