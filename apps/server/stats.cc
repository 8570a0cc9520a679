// GET /moxie/stats and GET /metrics: what the engines are doing.
#include <algorithm>
#include <cstdio>

#include "server/json.h"
#include "server/routes.h"

namespace moxie::server {
namespace {

OrderedJson RoutingSharesJson(const ModelHost& host, const RoutingShares& routing) {
  OrderedJson layers = OrderedJson::array();
  for (size_t layer = 0; layer < routing.chosen.size(); ++layer) {
    OrderedJson shares = OrderedJson::array();
    for (size_t e = 0; e < routing.chosen[layer].size(); ++e)
      shares.push_back(routing.Share(layer, e));
    layers.push_back({{"layer", host.mixture_layers()[layer]}, {"shares", std::move(shares)}});
  }
  return layers;
}

/// How much more than its fair part the busiest expert of a layer gets; 1: balanced.
double Imbalance(const std::vector<int64_t>& chosen) {
  int64_t sum = 0;
  for (const int64_t count : chosen) sum += count;
  if (sum == 0) return 1;
  const auto most = static_cast<double>(*std::max_element(chosen.begin(), chosen.end()));
  return most * static_cast<double>(chosen.size()) / static_cast<double>(sum);
}

/// Writes Prometheus' text format, version 0.0.4.
class MetricsText {
 public:
  void Family(const char* name, const char* type, const char* help) {
    text_ += std::string("# HELP ") + name + " " + help + "\n# TYPE " + name + " " + type + "\n";
  }
  void Value(const std::string& name, const OrderedJson& labels, double value) {
    text_ += name;
    char separator = '{';
    for (const auto& [key, label] : labels.items()) {
      // JSON escapes quotes, backslashes and line ends as the format does.
      text_ += separator + key + "=" + ToText(OrderedJson(label.get<std::string>()));
      separator = ',';
    }
    char number[40];
    std::snprintf(number, sizeof(number), "%.17g", value);
    text_ += (separator == ',' ? "} " : " ") + std::string(number) + "\n";
  }
  std::string text() const { return text_; }

 private:
  std::string text_;
};

struct Metric {
  const char* name;
  const char* type;
  const char* help;
  double (*value)(const EngineStats&);
};

template <auto member>
double Count(const EngineStats& stats) {
  return static_cast<double>(stats.*member);
}
template <auto member>
double Traffic(const EngineStats& stats) {
  return static_cast<double>(stats.expert_store.*member);
}

constexpr Metric kMetrics[] = {
    {"moxie_requests_running", "gauge", "Answers being computed", Count<&EngineStats::running>},
    {"moxie_requests_waiting", "gauge", "Answers queued", Count<&EngineStats::waiting>},
    {"moxie_forward_passes_total", "counter", "Forward passes", Count<&EngineStats::passes>},
    {"moxie_forward_seconds_total", "counter", "Time that forward passes took",
     Count<&EngineStats::busy_s>},
    {"moxie_prompt_tokens_total", "counter", "Tokens of prompts computed",
     Count<&EngineStats::prompt_tokens>},
    {"moxie_prefix_hit_tokens_total", "counter", "Tokens of prompts found in the cache",
     Count<&EngineStats::reused_tokens>},
    {"moxie_generated_tokens_total", "counter", "Tokens generated",
     Count<&EngineStats::generated_tokens>},
    {"moxie_kv_pages", "gauge", "Pages of keys and values", Count<&EngineStats::kv_pages>},
    {"moxie_kv_pages_used", "gauge", "Pages in use or kept", Count<&EngineStats::kv_pages_used>},
    {"moxie_expert_store_hits_total", "counter", "Experts wanted and in memory",
     Traffic<&ExpertTraffic::hits>},
    {"moxie_expert_store_misses_total", "counter", "Experts wanted and read from disk",
     Traffic<&ExpertTraffic::misses>},
    {"moxie_expert_store_read_bytes_total", "counter", "Bytes of experts read from disk",
     Traffic<&ExpertTraffic::bytes_read>},
    {"moxie_expert_store_wait_seconds_total", "counter", "Time that computing waited for the disk",
     Traffic<&ExpertTraffic::wait_s>},
};

void WriteLatencies(const Latencies& latencies, MetricsText& text) {
  const auto write = [&](const char* name, const char* help, const Histogram& histogram) {
    text.Family(name, "histogram", help);
    int64_t below = 0;
    for (size_t i = 0; i < Histogram::kBounds.size(); ++i) {
      below += histogram.counts[i];
      char bound[24];
      std::snprintf(bound, sizeof(bound), "%g", Histogram::kBounds[i]);
      text.Value(std::string(name) + "_bucket", {{"le", bound}}, static_cast<double>(below));
    }
    const auto count = static_cast<double>(below + histogram.counts.back());
    text.Value(std::string(name) + "_bucket", {{"le", "+Inf"}}, count);
    text.Value(std::string(name) + "_sum", OrderedJson::object(), histogram.sum);
    text.Value(std::string(name) + "_count", OrderedJson::object(), count);
  };
  write("moxie_time_to_first_token_seconds", "From a request to its first token",
        latencies.first_token);
  write("moxie_inter_token_seconds", "Between the tokens of an answer", latencies.between_tokens);
  write("moxie_queue_seconds", "From a request to its first forward pass", latencies.queue);
}

}  // namespace

void GetStats(Server& server, const Call& call) {
  OrderedJson models = OrderedJson::array();
  for (const auto& [name, host] : server.models()) {
    const ModelDescription& description = host->description();
    const EngineStats stats = host->engine().Stats();
    OrderedJson model{{"name", name},
                      {"family", description.family},
                      {"parameters", description.parameters},
                      {"active_parameters", description.active_parameters},
                      {"layers", description.layers},
                      {"experts", description.experts},
                      {"experts_per_token", description.experts_per_token},
                      {"context", host->model().context()},
                      {"kernels", host->model().kernels()},
                      {"threads", host->model().threads()},
                      {"bytes_per_token", host->model().bytes_per_token()},
                      {"running", stats.running},
                      {"waiting", stats.waiting},
                      {"prompt_tokens", stats.prompt_tokens},
                      {"generated_tokens", stats.generated_tokens},
                      {"busy_s", stats.busy_s},
                      {"prefix_hit_tokens", stats.reused_tokens},
                      {"kv_pages", stats.kv_pages},
                      {"kv_pages_used", stats.kv_pages_used}};
    const DecodeBound bound = server.BoundOf(*host, stats);
    if (bound.tokens_per_s > 0) {
      model["decode_bound_tokens_per_s"] = bound.tokens_per_s;
      model["decode_bound_by"] = bound.by_disk ? "disk" : "memory";
    }
    if (host->model().streams_experts()) {
      model["disk_bytes_per_token"] = bound.bytes_from_disk;
      model["expert_store"] = {{"hits", stats.expert_store.hits},
                               {"misses", stats.expert_store.misses},
                               {"bytes_read", stats.expert_store.bytes_read},
                               {"wait_s", stats.expert_store.wait_s}};
    }
    model["routing"] = RoutingSharesJson(*host, stats.routing);
    models.push_back(std::move(model));
  }
  call.exchange->Send({.body = ToText({{"models", std::move(models)}})});
}

void GetMetrics(Server& server, const Call& call) {
  MetricsText text;
  std::vector<std::pair<std::string, EngineStats>> all;
  for (const auto& [name, host] : server.models()) all.emplace_back(name, host->engine().Stats());
  for (const Metric& metric : kMetrics) {
    text.Family(metric.name, metric.type, metric.help);
    for (const auto& [name, stats] : all)
      text.Value(metric.name, {{"model", name}}, metric.value(stats));
  }
  text.Family("moxie_expert_tokens_total", "counter", "Tokens that went to an expert");
  for (const auto& [name, stats] : all) {
    const auto& layers = server.models().at(name)->mixture_layers();
    for (size_t layer = 0; layer < stats.routing.chosen.size(); ++layer) {
      const auto& chosen = stats.routing.chosen[layer];
      for (size_t e = 0; e < chosen.size(); ++e)
        text.Value("moxie_expert_tokens_total",
                   {{"model", name},
                    {"layer", std::to_string(layers[layer])},
                    {"expert", std::to_string(e)}},
                   static_cast<double>(chosen[e]));
    }
  }
  text.Family("moxie_expert_imbalance", "gauge", "Busiest expert's load over the mean load");
  for (const auto& [name, stats] : all) {
    const auto& layers = server.models().at(name)->mixture_layers();
    for (size_t layer = 0; layer < stats.routing.chosen.size(); ++layer)
      text.Value("moxie_expert_imbalance",
                 {{"model", name}, {"layer", std::to_string(layers[layer])}},
                 Imbalance(stats.routing.chosen[layer]));
  }
  text.Family("moxie_decode_bound_tokens_per_second", "gauge",
              "What memory and disk allow one answer; 0: the disk's speed is not known");
  for (const auto& [name, stats] : all)
    text.Value("moxie_decode_bound_tokens_per_second", {{"model", name}},
               server.BoundOf(*server.models().at(name), stats).tokens_per_s);
  WriteLatencies(server.latencies, text);
  const auto gauge = [&](const char* name, const char* help, int64_t value) {
    text.Family(name, "gauge", help);
    text.Value(name, OrderedJson::object(), static_cast<double>(value));
  };
  gauge("moxie_requests_preparing", "Requests read in other threads, not yet queued",
        server.preparing);
  gauge("moxie_http_connections", "Open connections", server.http().connections());
  call.exchange->Send(
      {.content_type = "text/plain; version=0.0.4; charset=utf-8", .body = text.text()});
}

}  // namespace moxie::server
