#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "formats/json.h"
#include "moxie/routing.h"

namespace moxie {
namespace {

constexpr int64_t kMostExperts = 65'536;

/// Rows of equal length, one after another.
template <class T>
nlohmann::ordered_json Rows(const std::vector<T>& values, int64_t row) {
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (auto at = values.begin(); at != values.end(); at += row)
    rows.push_back(std::vector<T>(at, at + row));
  return rows;
}

/// Reads what a text says of one trace.
class TraceReader {
 public:
  explicit TraceReader(std::string_view name) : name_(name) {}

  Result<RoutingTrace> Read(const nlohmann::json& json) {
    if (!json.is_object() || !json.contains("layers") || !json["layers"].is_array() ||
        json["layers"].empty())
      return Invalid("must be an object with \"layers\", an array of at least one");
    for (const nlohmann::json& layer : json["layers"]) {
      RoutingTrace::Layer read{.layer = std::ssize(trace_.layers), .experts = {}, .weights = {}};
      if (!layer.is_object() || !layer.contains("experts"))
        return Invalid(Where() + " must be an object with \"experts\"");
      MOXIE_TRY(ReadRows(layer["experts"], [&](const nlohmann::json& value) {
        if (!value.is_number_integer() || value < 0 || value >= kMostExperts) return false;
        const auto expert = value.get<int32_t>();
        const auto before = std::ssize(read.experts) % shape_.second;
        if (std::find(read.experts.end() - before, read.experts.end(), expert) !=
            read.experts.end())
          return false;
        read.experts.push_back(expert);
        trace_.experts = std::max<int64_t>(trace_.experts, read.experts.back() + 1);
        return true;
      }));
      if (layer.contains("weights")) {
        MOXIE_TRY(ReadRows(layer["weights"], [&](const nlohmann::json& value) {
          // A greater number would be read as infinity, which JSON cannot write.
          if (!value.is_number() ||
              std::abs(value.get<double>()) > std::numeric_limits<float>::max())
            return false;
          read.weights.push_back(value.get<float>());
          return true;
        }));
      }
      trace_.layers.push_back(std::move(read));
    }
    MOXIE_TRY(ReadExpertCount(json));
    return std::move(trace_);
  }

 private:
  Error Invalid(const std::string& what) const {
    return {ErrorCode::kInvalidInput, std::string(name_) + ": " + what};
  }
  std::string Where() const { return "layers[" + std::to_string(trace_.layers.size()) + "]"; }

  /// [tokens][experts a token], the same in all layers; the first decides.
  template <class Take>
  Result<void> ReadRows(const nlohmann::json& rows, const Take& take) {
    const bool first = shape_.first < 0;
    if (first && rows.is_array() && !rows.empty() && rows[0].is_array() && !rows[0].empty())
      shape_ = {std::ssize(rows), std::ssize(rows[0])};
    const auto is = [](const nlohmann::json& value, int64_t size) {
      return value.is_array() && std::ssize(value) == size;
    };
    if (shape_.first < 0 || !is(rows, shape_.first))
      return Invalid(Where() + " must have an array a token, and as many as the first layer");
    for (const nlohmann::json& row : rows) {
      if (!is(row, shape_.second))
        return Invalid(Where() + " must have as many experts for each token");
      for (const nlohmann::json& value : row) {
        if (!take(value))
          return Invalid(Where() + " must have distinct experts from 0 to " +
                         std::to_string(kMostExperts - 1) +
                         " for each token, and float32 numbers for weights");
      }
    }
    trace_.tokens = shape_.first;
    trace_.experts_per_token = shape_.second;
    return {};
  }

  Result<void> ReadExpertCount(const nlohmann::json& json) {
    if (!json.contains("expert_count")) return {};
    const nlohmann::json& count = json["expert_count"];
    if (!count.is_number_integer() || count < trace_.experts || count > kMostExperts)
      return Invalid("expert_count must be a number from " + std::to_string(trace_.experts) +
                     " to " + std::to_string(kMostExperts));
    trace_.experts = count.get<int64_t>();
    return {};
  }

  std::string_view name_;
  RoutingTrace trace_;
  std::pair<int64_t, int64_t> shape_ = {-1, -1};  ///< tokens, experts a token
};

}  // namespace

std::string FormatRoutingTrace(const RoutingTrace& trace) {
  nlohmann::ordered_json layers = nlohmann::ordered_json::array();
  for (const RoutingTrace::Layer& layer : trace.layers) {
    layers.push_back({{"experts", Rows(layer.experts, trace.experts_per_token)}});
    if (!layer.weights.empty())
      layers.back()["weights"] = Rows(layer.weights, trace.experts_per_token);
  }
  const nlohmann::ordered_json json = {{"expert_count", trace.experts},
                                       {"layers", std::move(layers)}};
  return json.dump() + "\n";
}

Result<RoutingTrace> ParseRoutingTrace(std::string_view text, std::string_view name) {
  MOXIE_TRY_ASSIGN(const nlohmann::json json, ParseJson(text, name));
  return TraceReader(name).Read(json);
}

}  // namespace moxie
