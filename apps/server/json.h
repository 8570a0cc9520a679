#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "server/api.h"

namespace moxie::server {

/// Keeps the order of members: what people read, and the order in which a schema's members are
/// written.
using OrderedJson = nlohmann::ordered_json;
using Json = OrderedJson;

/// A request's body as a JSON object.
/// Errors: 400 for anything else, JSON nested more than 64 deep, or objects of so many members that
/// looking for each among those before it would take long.
std::optional<Json> ParseBody(std::string_view body, ApiError& error);

/// JSON as text; bytes that are no UTF-8 (a token may end within a character) become U+FFFD.
std::string ToText(const OrderedJson& json);

/// Reads a JSON object's fields, checking type and range. Absent fields and null give the default.
/// The first field that is wrong leaves an error, and every later read its default, so a reader
/// checks once at its end.
class Fields {
 public:
  /// `json` must outlive the object and be a JSON object. `prefix` stands before field names in
  /// errors, as "stream_options.".
  Fields(const Json& json, ApiError& error, std::string prefix = "")
      : json_(json), error_(error), prefix_(std::move(prefix)) {}

  bool Has(const char* name) const;
  int64_t Integer(const char* name, int64_t absent, int64_t least, int64_t most);
  double Number(const char* name, double absent, double least, double most);
  bool Bool(const char* name, bool absent);
  std::string String(const char* name, std::string absent = "");
  /// A string or a list of them.
  std::vector<std::string> Strings(const char* name, size_t most_strings, size_t most_bytes);
  /// The object or array of that name; null where absent.
  const Json* Object(const char* name);
  const Json* Array(const char* name);
  const Json* Any(const char* name) const;
  /// The fields of the object of that name; where there is none, of an empty one.
  Fields Within(const char* name);

  void Fail(const std::string& name, const std::string& message);
  bool ok() const { return error_.status == 0; }

 private:
  const Json* Typed(const char* name, bool right, const char* expected);

  const Json& json_;
  ApiError& error_;
  std::string prefix_;
};

}  // namespace moxie::server
