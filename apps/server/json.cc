#include "server/json.h"

#include <cmath>
#include <vector>

namespace moxie::server {
namespace {

constexpr int kMostDepth = 64;
constexpr size_t kMostComparisons = 50'000'000;  // One object of 10,000 members, or 100 of 1,000.

/// Bounds what a body costs: its depth, and the search for each member among those before it.
class BodyGuard {
 public:
  bool operator()(int depth, Json::parse_event_t event) {
    using Event = Json::parse_event_t;
    if (event == Event::object_start) members_.push_back(0);
    if (event == Event::key && !members_.empty()) comparisons_ += ++members_.back();
    if (event == Event::object_end && !members_.empty()) members_.pop_back();
    too_deep_ = too_deep_ || depth > kMostDepth;
    return depth <= kMostDepth && !too_many();
  }
  bool too_deep() const { return too_deep_; }
  bool too_many() const { return comparisons_ > kMostComparisons; }

 private:
  std::vector<size_t> members_;  // Of the objects that are open.
  size_t comparisons_ = 0;
  bool too_deep_ = false;
};

std::string Shown(double value) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.10g", value);
  return text;
}

}  // namespace

std::optional<Json> ParseBody(std::string_view body, ApiError& error) {
  BodyGuard guard;
  try {
    Json json = Json::parse(
        body, [&](int depth, Json::parse_event_t event, Json&) { return guard(depth, event); });
    if (json.is_object() && !guard.too_deep() && !guard.too_many()) return json;
    error = InvalidRequest(guard.too_deep()   ? "the body's JSON is nested more than 64 deep"
                           : guard.too_many() ? "the body's JSON has objects of too many members"
                                              : "the body is JSON, but must be an object");
  } catch (const Json::exception& problem) {
    std::string reason = problem.what();
    reason = reason.substr(reason.find(']') + 1);
    error = InvalidRequest("the body is not JSON:" + reason);
  }
  return std::nullopt;
}

std::string ToText(const OrderedJson& json) {
  return json.dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
}

void Fields::Fail(const std::string& name, const std::string& message) {
  if (ok()) error_ = InvalidRequest(prefix_ + name + message, prefix_ + name);
}

const Json* Fields::Any(const char* name) const {
  const auto found = json_.find(name);
  return found == json_.end() || found->is_null() ? nullptr : &*found;
}

bool Fields::Has(const char* name) const { return Any(name) != nullptr; }

int64_t Fields::Integer(const char* name, int64_t absent, int64_t least, int64_t most) {
  const Json* field = Any(name);
  if (field == nullptr) return absent;
  // Also 3.0, which some clients send; a number too large for int64 is out of any range here.
  const double value = field->is_number() ? field->get<double>() : NAN;
  // The largest int64 rounds up to 2^63, which is none.
  if (!(value >= static_cast<double>(least) && value <= static_cast<double>(most)) ||
      value >= 0x1p63 || value != std::floor(value)) {
    Fail(name, " must be an integer from " + std::to_string(least) + " to " + std::to_string(most));
    return absent;
  }
  return field->is_number_integer() ? field->get<int64_t>() : static_cast<int64_t>(value);
}

double Fields::Number(const char* name, double absent, double least, double most) {
  const Json* field = Any(name);
  if (field == nullptr) return absent;
  const double value = field->is_number() ? field->get<double>() : NAN;
  if (value >= least && value <= most) return value;
  Fail(name, " must be a number from " + Shown(least) + " to " + Shown(most));
  return absent;
}

const Json* Fields::Typed(const char* name, bool right, const char* expected) {
  if (right) return Any(name);
  Fail(name, std::string(" must be ") + expected);
  return nullptr;
}

bool Fields::Bool(const char* name, bool absent) {
  const Json* field = Any(name);
  if (field == nullptr) return absent;
  field = Typed(name, field->is_boolean(), "true or false");
  return field != nullptr ? field->get<bool>() : absent;
}

std::string Fields::String(const char* name, std::string absent) {
  const Json* field = Any(name);
  if (field == nullptr) return absent;
  field = Typed(name, field->is_string(), "a string");
  return field != nullptr ? field->get<std::string>() : absent;
}

std::vector<std::string> Fields::Strings(const char* name, size_t most_strings, size_t most_bytes) {
  const Json* field = Any(name);
  if (field == nullptr) return {};
  std::vector<std::string> strings;
  if (field->is_string()) {
    strings.push_back(field->get<std::string>());
  } else if (field->is_array()) {
    for (const Json& item : *field) {
      if (!item.is_string()) Fail(name, " must be a string or a list of strings");
      if (!ok()) return {};
      strings.push_back(item.get<std::string>());
    }
  } else {
    Fail(name, " must be a string or a list of strings");
  }
  if (strings.size() > most_strings)
    Fail(name, " has more than " + std::to_string(most_strings) + " strings");
  for (const std::string& text : strings) {
    if (text.size() > most_bytes)
      Fail(name, " has a string of more than " + std::to_string(most_bytes) + " bytes");
  }
  return strings;
}

const Json* Fields::Object(const char* name) {
  const Json* field = Any(name);
  return field == nullptr ? nullptr : Typed(name, field->is_object(), "an object");
}

Fields Fields::Within(const char* name) {
  static const Json kEmpty = Json::object();
  const Json* object = Object(name);
  return {object != nullptr ? *object : kEmpty, error_, prefix_ + name + "."};
}

const Json* Fields::Array(const char* name) {
  const Json* field = Any(name);
  return field == nullptr ? nullptr : Typed(name, field->is_array(), "a list");
}

}  // namespace moxie::server
