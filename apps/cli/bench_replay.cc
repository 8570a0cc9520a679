#include "bench_replay.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <vector>

#include "command.h"
#include "files.h"
#include "moxie/routing.h"
#include "terminal.h"

namespace moxie::cli {
namespace {

/// Shares of all experts that the caches hold.
constexpr double kShares[] = {1.0 / 16, 1.0 / 8, 1.0 / 4, 3.0 / 8, 1.0 / 2, 3.0 / 4};

struct Row {
  int64_t cached = 0;
  std::vector<CacheReplay> policies;
};

void PrintJson(const RoutingTrace& trace, const std::vector<Row>& rows) {
  nlohmann::ordered_json out = {{"tokens", trace.tokens},
                                {"experts", std::ssize(trace.layers) * trace.experts}};
  for (const Row& row : rows) {
    nlohmann::ordered_json rates;
    for (const CacheReplay& policy : row.policies) rates[policy.policy] = policy.hit_rate;
    out["caches"].push_back({{"cached_experts", row.cached}, {"hit_rates", std::move(rates)}});
  }
  Print(out.dump() + "\n");
}

void PrintTable(const RoutingTrace& trace, const std::vector<Row>& rows) {
  const auto right = [](const std::string& text, size_t width) {
    return std::string(width - std::min(width, text.size()), ' ') + text;
  };
  const int64_t experts = std::ssize(trace.layers) * trace.experts;
  Print("Found in the cache, in per cent, of what " + std::to_string(trace.tokens) +
        " tokens ask of " + std::to_string(experts) + " experts (" +
        std::to_string(std::ssize(trace.layers)) + " layers, " +
        std::to_string(trace.experts_per_token) + " of " + std::to_string(trace.experts) + ")\n" +
        right("cached", 8) + right("share", 8));
  for (const CacheReplay& policy : rows[0].policies) Print(right(policy.policy, 11));
  Print("\n");
  for (const Row& row : rows) {
    const double share = static_cast<double>(row.cached) / static_cast<double>(experts);
    Print(right(std::to_string(row.cached), 8) + right(FormatFixed(100 * share, 1), 8));
    for (const CacheReplay& policy : row.policies)
      Print(right(FormatFixed(100 * policy.hit_rate, 1), 11));
    Print("\n");
  }
}

}  // namespace

int Replay(const std::string& file, bool json) {
  const Result<std::string> text = ReadFile(file);
  if (!text) return Fail("bench", text.error());
  const Result<RoutingTrace> trace = ParseRoutingTrace(*text, file);
  if (!trace) return Fail("bench", trace.error());
  const auto experts = static_cast<double>(std::ssize(trace->layers) * trace->experts);
  std::vector<Row> rows;
  ProgressBar bar("replaying");
  for (const double share : kShares) {
    const int64_t cached =
        std::max(static_cast<int64_t>(share * experts), trace->experts_per_token);
    rows.push_back({cached, ReplayRouting(*trace, cached)});
    bar.Show(static_cast<double>(rows.size()) / std::size(kShares));
  }
  bar.Clear();
  json ? PrintJson(*trace, rows) : PrintTable(*trace, rows);
  return kDone;
}

}  // namespace moxie::cli
