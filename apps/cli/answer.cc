#include "answer.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <vector>

#include "terminal.h"

namespace moxie::cli {
namespace {

using Json = nlohmann::ordered_json;

/// How uneven a layer's shares are: largest minus smallest.
double Spread(const RoutingShares& routing, size_t layer) {
  double least = 1;
  double most = 0;
  for (size_t e = 0; e < routing.chosen[layer].size(); ++e) {
    least = std::min(least, routing.Share(layer, e));
    most = std::max(most, routing.Share(layer, e));
  }
  return most - least;
}

std::string Bar(double share) {
  std::string bar;
  for (int i = 0; i < static_cast<int>(std::lround(share * 24)); ++i) bar += "█";
  return bar;
}

std::string Percent(double share) {
  const std::string text = FormatFixed(share * 100, 1);
  return std::string(text.size() < 5 ? 5 - text.size() : 0, ' ') + text + " %";
}

}  // namespace

std::string AnswerJson(const Model& model, const Completion& answer) {
  Json out = Json::object();  // A null that becomes one cannot be destroyed if memory is refused.
  out["text"] = answer.text;
  out["ids"] = answer.ids;
  out["prompt_tokens"] = answer.prompt_tokens;
  out["finish_reason"] = NameOf(answer.finish_reason);
  out["timings"] = {{"load_s", model.load_seconds()},
                    {"prefill_s", answer.timings.prefill_s},
                    {"prefill_tokens_per_s", answer.prefill_tokens_per_s()},
                    {"decode_s", answer.timings.decode_s},
                    {"decode_tokens_per_s", answer.decode_tokens_per_s()}};
  out["peak_memory_bytes"] = PeakMemoryBytes();
  if (model.is_mixture()) {
    Json& layers = out["routing"] = Json::array();
    for (size_t layer = 0; layer < answer.routing.chosen.size(); ++layer) {
      Json shares = Json::array();
      for (size_t e = 0; e < answer.routing.chosen[layer].size(); ++e)
        shares.push_back(answer.routing.Share(layer, e));
      layers.push_back(std::move(shares));
    }
  }
  if (model.streams_experts()) {
    const ExpertTraffic traffic = model.expert_traffic();
    out["experts"] = {{"hits", traffic.hits},
                      {"misses", traffic.misses},
                      {"bytes_read", traffic.bytes_read},
                      {"wait_s", traffic.wait_s}};
  }
  return out.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string AnswerTable(const Model& model, const Completion& answer) {
  const MemoryNeed need = model.memory_need();
  std::string out;
  const auto row = [&](const char* name, const std::string& text) {
    out += "  " + std::string(name) + std::string(9 - std::string(name).size(), ' ') + text + "\n";
  };
  row("load", FormatFixed(model.load_seconds(), 2) + " s");
  row("prompt", std::to_string(answer.prompt_tokens) + " tokens" +
                    (answer.reused_tokens > 0
                         ? " (" + std::to_string(answer.reused_tokens) + " of them known)"
                         : "") +
                    ", " + FormatFixed(answer.prefill_tokens_per_s(), 1) + " tokens/s");
  row("answer", std::to_string(answer.ids.size()) + " tokens, " +
                    FormatFixed(answer.decode_tokens_per_s(), 1) + " tokens/s (" +
                    std::to_string(model.threads()) +
                    (model.threads() == 1 ? " thread" : " threads") + ", " +
                    std::string(model.kernels()) + ")");
  row("memory", FormatBytes(PeakMemoryBytes()) + " at most (weights " +
                    FormatBytes(need.weights + need.experts) + ", keys and values " +
                    FormatBytes(need.kv_cache) + ")");
  if (model.streams_experts()) {
    const ExpertTraffic traffic = model.expert_traffic();
    const auto asked = static_cast<double>(std::max<int64_t>(traffic.hits + traffic.misses, 1));
    row("experts", FormatFixed(100 * static_cast<double>(traffic.hits) / asked, 1) +
                       " % found in a cache of " + FormatBytes(need.experts) + ", " +
                       FormatBytes(traffic.bytes_read) + " read (" +
                       std::string(model.read_method()) + "), waited " +
                       FormatFixed(traffic.wait_s, 2) + " s");
  }
  return out + RoutingTable(answer.routing);
}

std::string RoutingTable(const RoutingShares& routing) {
  if (routing.empty() || routing.chosen[0].empty()) return "";
  const size_t layers = routing.chosen.size();
  const size_t experts = routing.chosen[0].size();
  std::string out = "  routing  share of " + std::to_string(routing.tokens) +
                    " tokens that went to each expert, mean of " + std::to_string(layers) +
                    (layers == 1 ? " layer\n" : " layers\n");
  for (size_t e = 0; e < experts; ++e) {
    double mean = 0;
    for (size_t layer = 0; layer < layers; ++layer) mean += routing.Share(layer, e);
    mean /= static_cast<double>(layers);
    const std::string number = std::to_string(e);
    out += "  " + std::string(number.size() < 7 ? 7 - number.size() : 0, ' ') + number + "  " +
           Percent(mean) + "  " + Bar(mean) + "\n";
  }
  size_t least_even = 0;
  for (size_t layer = 1; layer < layers; ++layer) {
    if (Spread(routing, layer) > Spread(routing, least_even)) least_even = layer;
  }
  const auto& counts = routing.chosen[least_even];
  const auto most =
      static_cast<size_t>(std::max_element(counts.begin(), counts.end()) - counts.begin());
  out += "           least even: mixture layer " + std::to_string(least_even) + ", expert " +
         std::to_string(most) + " gets " + FormatFixed(routing.Share(least_even, most) * 100, 1) +
         " %\n";
  return out;
}

}  // namespace moxie::cli
