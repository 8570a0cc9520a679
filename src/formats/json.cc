#include "formats/json.h"

#include <algorithm>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/printable.h"

namespace moxie {
namespace {

/// Receives the events of nlohmann's parser, which keeps no stack of calls, and builds the value.
template <class Json>
class Builder {
 public:
  explicit Builder(const JsonLimits& limits) : limits_(limits) {}

  bool null() { return Add(Json(nullptr)); }
  bool boolean(bool v) { return Add(Json(v)); }
  bool number_integer(int64_t v) { return Add(Json(v)); }
  bool number_unsigned(uint64_t v) { return Add(Json(v)); }
  bool number_float(double v, const std::string&) { return Add(Json(v)); }
  bool string(std::string& v) { return Add(Json(std::move(v))); }
  bool binary(typename Json::binary_t&) { return false; }  // Not a thing of JSON texts.
  bool start_object(size_t) { return Open(Json::object()); }
  bool start_array(size_t) { return Open(Json::array()); }
  bool end_object() { return Close(); }
  bool end_array() { return Close(); }

  bool key(std::string& name) {
    auto& members = stack_.back()->template get_ref<typename Json::object_t&>();
    if constexpr (std::is_same_v<Json, nlohmann::ordered_json>) {
      if (members.size() >= limits_.ordered_members) {
        return Refuse("an object with more than " + std::to_string(limits_.ordered_members) +
                      " members");
      }
    }
    const auto [member, added] = members.emplace(name, Json());
    if (!added) return Refuse("\"" + Printable(name) + "\" twice in one object");
    slot_ = &member->second;
    return true;
  }

  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception& error) {
    position_ = position;
    reason_ = error.what();
    // "[json.exception.parse_error.101] parse error at line 1, column 2: REASON; last read: 'X'"
    // or "[json.exception.out_of_range.406] REASON".
    const size_t colon = reason_.find(": ");
    const size_t bracket = reason_.find("] ");
    if (reason_.find("parse error at") == bracket + 2 && colon != std::string::npos) {
      reason_.erase(0, colon + 2);
    } else if (bracket != std::string::npos) {
      reason_.erase(0, bracket + 2);
    }
    const size_t last = reason_.find("; last read: ");
    if (last != std::string::npos) {
      const size_t expected = reason_.rfind("; expected ");
      const std::string tail =
          expected != std::string::npos && expected > last ? reason_.substr(expected) : "";
      reason_ = reason_.substr(0, last) + tail;
    }
    reason_ = Printable(reason_, 200);
    return false;
  }

  Json Take() { return std::move(root_); }
  size_t position() const { return position_; }          ///< of a syntax error: bytes read
  const std::string& reason() const { return reason_; }  ///< of a syntax error
  const std::string& refused() const { return refused_; }

 private:
  bool Refuse(std::string what) {
    refused_ = std::move(what);
    return false;
  }

  Json* Place(Json value) {
    if (stack_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    Json* parent = stack_.back();
    if (parent->is_object()) {
      *slot_ = std::move(value);
      return slot_;
    }
    auto& elements = parent->template get_ref<typename Json::array_t&>();
    elements.push_back(std::move(value));
    return &elements.back();
  }

  bool Add(Json value) {
    if (++values_ > limits_.values) {
      return Refuse("more than " + std::to_string(limits_.values) + " values");
    }
    Place(std::move(value));
    return true;
  }

  bool Open(Json container) {
    if (stack_.size() >= limits_.depth) {
      return Refuse("more than " + std::to_string(limits_.depth) + " levels of nesting");
    }
    if (++values_ > limits_.values) {
      return Refuse("more than " + std::to_string(limits_.values) + " values");
    }
    // A container's address stays: its parent takes no other element until it is closed.
    stack_.push_back(Place(std::move(container)));
    return true;
  }

  bool Close() {
    stack_.pop_back();
    return true;
  }

  const JsonLimits& limits_;
  Json root_;
  std::vector<Json*> stack_;
  Json* slot_ = nullptr;
  size_t values_ = 0;
  size_t position_ = 0;
  std::string reason_;
  std::string refused_;
};

/// Where the last of the `read` bytes is; one more than there are were read at a text's end.
std::string LineAndColumn(std::string_view text, size_t read) {
  const std::string_view before = text.substr(0, std::min(read == 0 ? 0 : read - 1, text.size()));
  const auto line = std::count(before.begin(), before.end(), '\n') + 1;
  const size_t newline = before.rfind('\n');
  const size_t column =
      newline == std::string_view::npos ? before.size() + 1 : before.size() - newline;
  return "line " + std::to_string(line) + ", column " + std::to_string(column);
}

template <class Json>
Result<Json> Parse(std::string_view text, std::string_view name, const JsonLimits& limits) {
  const auto fail = [&](const std::string& what) {
    return Error{ErrorCode::kInvalidInput, std::string(name) + ": " + what};
  };
  if (text.size() > limits.bytes) {
    return fail(std::to_string(text.size()) + " bytes of JSON, but at most " +
                std::to_string(limits.bytes) + " are read");
  }
  Builder<Json> builder(limits);
  if (Json::sax_parse(text, &builder)) return Result<Json>(builder.Take());
  if (!builder.refused().empty()) {
    return fail("has " + builder.refused() + ", which moxie refuses in JSON");
  }
  return fail("not valid JSON at " + LineAndColumn(text, builder.position()) + ": " +
              builder.reason());
}

}  // namespace

Result<nlohmann::json> ParseJson(std::string_view text, std::string_view name,
                                 const JsonLimits& limits) {
  return Parse<nlohmann::json>(text, name, limits);
}

Result<nlohmann::ordered_json> ParseOrderedJson(std::string_view text, std::string_view name,
                                                const JsonLimits& limits) {
  return Parse<nlohmann::ordered_json>(text, name, limits);
}

}  // namespace moxie
