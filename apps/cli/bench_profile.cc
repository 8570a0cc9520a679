#include "bench_profile.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "terminal.h"

namespace moxie::cli {
namespace {

constexpr std::array kParts = {Part::kAttention, Part::kRouter, Part::kExperts,
                               Part::kDense,     Part::kHead,   Part::kSampling};

}  // namespace

PartShares SharesOf(const Profile& profile, int64_t begin_ns, int64_t end_ns) {
  const auto time_of = [&](Part part) {
    int64_t sum = 0;
    for (const Profile::Span& span : profile.spans()) {
      if (span.part == part && span.begin_ns >= begin_ns && span.begin_ns < end_ns)
        sum += span.end_ns - span.begin_ns;
    }
    return static_cast<double>(sum);
  };
  const double total = time_of(Part::kPass) + time_of(Part::kSampling);
  PartShares shares;
  if (total == 0) return shares;
  double rest = 1;
  for (const Part part : kParts) {
    shares.emplace_back(NameOf(part), time_of(part) / total);
    rest -= shares.back().second;
  }
  shares.emplace_back("rest", rest);
  std::stable_sort(shares.begin(), shares.end(),
                   [](const auto& a, const auto& b) { return a.second > b.second; });
  shares.emplace_back(NameOf(Part::kContext), time_of(Part::kContext) / total);
  return shares;
}

std::string FormatShares(const PartShares& shares) {
  const auto percent = [](double share) { return FormatFixed(100 * share, 1) + " %"; };
  std::string text;
  for (const auto& [name, share] : shares) {
    if (name == NameOf(Part::kContext) || share < 0.0005) continue;
    text += (text.empty() ? "" : ", ") + name + " " + percent(share);
    if (name == NameOf(Part::kAttention))
      text += " (context " + percent(shares.back().second) + ")";
  }
  return text;
}

std::string ToChromeTrace(const Profile& profile) {
  nlohmann::ordered_json events = nlohmann::ordered_json::array();
  for (const Profile::Span& span : profile.spans()) {
    nlohmann::ordered_json event = {
        {"name", NameOf(span.part)},
        {"ph", "X"},
        {"ts", static_cast<double>(span.begin_ns) / 1000},
        {"dur", static_cast<double>(span.end_ns - span.begin_ns) / 1000},
        {"pid", 1},
        {"tid", 1}};
    if (span.layer >= 0) event["args"] = {{"layer", span.layer}};
    events.push_back(std::move(event));
  }
  const nlohmann::ordered_json trace = {{"traceEvents", std::move(events)},
                                        {"displayTimeUnit", "ms"}};
  return trace.dump() + "\n";
}

}  // namespace moxie::cli
