#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "formats/json.h"
#include "model/settings.h"

namespace moxie {
namespace {

SettingValue Scalar(const nlohmann::json& json) {
  SettingValue value;
  if (json.is_boolean()) {
    value.kind = SettingValue::Kind::kBoolean;
    value.boolean = json.get<bool>();
  } else if (json.is_number_integer() &&
             (!json.is_number_unsigned() || json.get<uint64_t>() <= uint64_t{INT64_MAX})) {
    value.kind = SettingValue::Kind::kInteger;
    value.integer = json.get<int64_t>();
    value.number = static_cast<double>(value.integer);
  } else if (json.is_number()) {
    value.kind = SettingValue::Kind::kNumber;
    value.number = json.get<double>();
  } else if (json.is_string()) {
    value.kind = SettingValue::Kind::kText;
    value.text = json.get<std::string>();
  } else if (json.is_array()) {
    value.kind = SettingValue::Kind::kList;
  } else if (json.is_object()) {
    value.kind = SettingValue::Kind::kObject;
  }
  return value;
}

using Values = std::map<std::string, SettingValue, std::less<>>;

/// Puts the members of `object` under their dotted names. ParseJson has bounded the depth.
void Flatten(const nlohmann::json& object, const std::string& prefix, Values& values) {
  for (const auto& [key, json] : object.items()) {
    const std::string name = prefix + key;
    SettingValue value = Scalar(json);
    if (json.is_array()) {
      // No setting of ours lies in a list within a list: those stay as bare kinds.
      for (const nlohmann::json& item : json) value.list.push_back(Scalar(item));
    }
    values.insert_or_assign(name, std::move(value));
    if (json.is_object()) Flatten(json, name + ".", values);
  }
}

}  // namespace

Result<Settings> Settings::FromJson(std::string_view json, std::string where, FileLayout layout) {
  constexpr JsonLimits kLimits{.bytes = 8 << 20, .depth = 32, .values = 65536};
  MOXIE_TRY_ASSIGN(const nlohmann::json parsed, ParseJson(json, where, kLimits));
  if (!parsed.is_object()) {
    return Error{ErrorCode::kInvalidInput, where + ": must be a JSON object of settings"};
  }
  Settings settings;
  settings.where_ = std::move(where);
  settings.layout_ = layout;
  Flatten(parsed, "", settings.values_);
  return settings;
}

}  // namespace moxie
