#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "moxie/result.h"

namespace moxie {

/// Typed look-ups in JSON objects from files. An absent or null member gives the fallback; one of
/// another type is an Error that names it.

inline const nlohmann::json* FindMember(const nlohmann::json& object, const char* key) {
  if (!object.is_object()) return nullptr;
  const auto found = object.find(key);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

inline Error WrongType(std::string_view key, std::string_view expected) {
  return Error{ErrorCode::kInvalidInput, std::string(key) + ": expected " + std::string(expected)};
}

inline Result<bool> BoolOr(const nlohmann::json& object, const char* key, bool fallback) {
  const nlohmann::json* member = FindMember(object, key);
  if (member == nullptr) return fallback;
  if (!member->is_boolean()) return WrongType(key, "true or false");
  return member->get<bool>();
}

inline Result<std::string> TextOr(const nlohmann::json& object, const char* key,
                                  std::string_view fallback) {
  const nlohmann::json* member = FindMember(object, key);
  if (member == nullptr) return std::string(fallback);
  if (!member->is_string()) return WrongType(key, "a string");
  return member->get<std::string>();
}

inline Result<int64_t> IntegerOr(const nlohmann::json& object, const char* key, int64_t fallback) {
  const nlohmann::json* member = FindMember(object, key);
  if (member == nullptr) return fallback;
  const bool fits =
      member->is_number_integer() && (!member->is_number_unsigned() ||
                                      member->get<uint64_t>() <= static_cast<uint64_t>(INT64_MAX));
  if (!fits) return WrongType(key, "an integer");
  return member->get<int64_t>();
}

/// The array of that name, or an empty one.
inline Result<const nlohmann::json*> ArrayOr(const nlohmann::json& object, const char* key) {
  static const nlohmann::json kEmpty = nlohmann::json::array();
  const nlohmann::json* member = FindMember(object, key);
  if (member == nullptr) return &kEmpty;
  if (!member->is_array()) return WrongType(key, "an array");
  return member;
}

}  // namespace moxie
