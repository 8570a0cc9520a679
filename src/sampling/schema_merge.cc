#include "sampling/schema_merge.h"

#include <algorithm>
#include <array>
#include <set>
#include <utility>

namespace moxie {
namespace {

constexpr int kMaxDepth = 40;
constexpr int kMaxSteps = 20'000;

/// What the value of a keyword must be.
enum class Shape : uint8_t {
  kAny,
  kFlag,
  kText,
  kCount,
  kNumber,
  kValues,
  kNames,
  kSchema,
  kSchemas,
  kNamedSchemas,
};

struct Keyword {
  std::string_view name;
  std::string_view type;  ///< that it speaks of; empty: of none in particular
  Shape shape;
};
constexpr Keyword kRestricting[] = {
    {"$ref", "", Shape::kText},
    {"$dynamicRef", "", Shape::kAny},
    {"$recursiveRef", "", Shape::kAny},
    {"allOf", "", Shape::kSchemas},
    {"anyOf", "", Shape::kSchemas},
    {"oneOf", "", Shape::kSchemas},
    {"not", "", Shape::kAny},
    {"if", "", Shape::kAny},
    {"then", "", Shape::kAny},
    {"else", "", Shape::kAny},
    {"type", "", Shape::kAny},
    {"enum", "", Shape::kValues},
    {"const", "", Shape::kAny},
    {"properties", "object", Shape::kNamedSchemas},
    {"required", "object", Shape::kNames},
    {"additionalProperties", "object", Shape::kSchema},
    {"patternProperties", "object", Shape::kAny},
    {"propertyNames", "object", Shape::kAny},
    {"minProperties", "object", Shape::kCount},
    {"maxProperties", "object", Shape::kCount},
    {"dependentRequired", "object", Shape::kAny},
    {"dependentSchemas", "object", Shape::kAny},
    {"dependencies", "object", Shape::kAny},
    {"unevaluatedProperties", "object", Shape::kAny},
    {"items", "array", Shape::kSchema},
    {"prefixItems", "array", Shape::kSchemas},
    {"additionalItems", "array", Shape::kAny},
    {"minItems", "array", Shape::kCount},
    {"maxItems", "array", Shape::kCount},
    {"uniqueItems", "array", Shape::kFlag},
    {"contains", "array", Shape::kAny},
    {"minContains", "array", Shape::kAny},
    {"maxContains", "array", Shape::kAny},
    {"unevaluatedItems", "array", Shape::kAny},
    {"minLength", "string", Shape::kCount},
    {"maxLength", "string", Shape::kCount},
    {"pattern", "string", Shape::kText},
    {"format", "string", Shape::kText},
    {"minimum", "number", Shape::kNumber},
    {"maximum", "number", Shape::kNumber},
    {"exclusiveMinimum", "number", Shape::kNumber},
    {"exclusiveMaximum", "number", Shape::kNumber},
    {"multipleOf", "number", Shape::kNumber},
};
const std::vector<std::string> kAllTypes = {"object", "array",   "string",
                                            "number", "boolean", "null"};

const Keyword* FindKeyword(std::string_view name) {
  const auto* const found = std::find_if(std::begin(kRestricting), std::end(kRestricting),
                                         [&](const Keyword& k) { return k.name == name; });
  return found == std::end(kRestricting) ? nullptr : found;
}

bool IsSchema(const SchemaJson& value) { return value.is_object() || value.is_boolean(); }

/// What a value should have been; null where it is.
const char* ShapeWanted(Shape shape, const SchemaJson& value) {
  const auto all = [&](auto is) {
    return value.is_array() && std::all_of(value.begin(), value.end(), is);
  };
  switch (shape) {
    case Shape::kAny:
      return nullptr;
    case Shape::kFlag:
      return value.is_boolean() ? nullptr : "true or false";
    case Shape::kText:
      return value.is_string() ? nullptr : "a string";
    case Shape::kCount: {
      const bool whole = value.is_number() && value.get<double>() >= 0 &&
                         value.get<double>() <= 1e9 && TypeOfValue(value) == "integer";
      return whole ? nullptr : "a whole number from 0 to 1000000000";
    }
    case Shape::kNumber:
      return value.is_number() ? nullptr : "a number";
    case Shape::kValues:
      return value.is_array() && !value.empty() ? nullptr : "a list of values";
    case Shape::kNames:
      return all([](const SchemaJson& v) { return v.is_string(); }) ? nullptr : "a list of strings";
    case Shape::kSchema:
      return IsSchema(value) ? nullptr : "a schema";
    case Shape::kSchemas:
      return all(IsSchema) && !value.empty() ? nullptr : "a list of schemas";
    case Shape::kNamedSchemas:
      return value.is_object() && std::all_of(value.begin(), value.end(), IsSchema)
                 ? nullptr
                 : "an object of schemas";
  }
  return nullptr;
}

Result<void> CheckShapes(const SchemaJson& schema, const std::string& where) {
  if (!IsSchema(schema))
    return SchemaError(ErrorCode::kInvalidInput, where, "a schema must be an object or a boolean");
  if (!schema.is_object()) return {};
  for (const auto& [name, value] : schema.items()) {
    const Keyword* const keyword = FindKeyword(name);
    const char* const wanted = keyword == nullptr ? nullptr : ShapeWanted(keyword->shape, value);
    if (wanted != nullptr)
      return SchemaError(ErrorCode::kInvalidInput, where, "\"" + name + "\" must be " + wanted);
  }
  return {};
}

/// The values of `const` or `enum`, or null.
SchemaJson ValuesOf(const SchemaJson& schema) {
  if (schema.contains("const")) return SchemaJson::array({schema["const"]});
  return schema.contains("enum") ? schema["enum"] : SchemaJson();
}

bool Holds(const SchemaJson& list, const SchemaJson& value) {
  return std::find(list.begin(), list.end(), value) != list.end();
}

bool Includes(const std::vector<std::string>& types, const std::string& type) {
  const auto has = [&](const std::string& t) {
    return std::find(types.begin(), types.end(), t) != types.end();
  };
  return has(type) || (type == "integer" && has("number"));
}

std::vector<std::string> CommonTypes(const std::vector<std::string>& a,
                                     const std::vector<std::string>& b) {
  std::vector<std::string> common;
  for (const std::string& type : a) {
    if (Includes(b, type)) common.push_back(type);
    if (type == "number" && !Includes(b, "number") && Includes(b, "integer"))
      common.emplace_back("integer");
  }
  return common;
}

/// Both schemas as one that is joined when it is looked at.
SchemaJson Both(const SchemaJson& a, const SchemaJson& b) {
  if (a == b || b == true) return a;
  if (a == true) return b;
  if (a == false || b == false) return false;
  return {{"allOf", SchemaJson::array({a, b})}};
}

/// What `schema` says of a property or an item that it does not name.
SchemaJson Others(const SchemaJson& schema, const char* keyword) {
  return schema.contains(keyword) ? schema[keyword] : SchemaJson(true);
}

/// `properties` and `additionalProperties`: what one names, the other may say of all others.
void MergeObjects(const SchemaJson& a, const SchemaJson& b, SchemaJson* into) {
  static constexpr const char* kOthers = "additionalProperties";
  if (a.contains(kOthers) || b.contains(kOthers))
    (*into)[kOthers] = Both(Others(a, kOthers), Others(b, kOthers));
  SchemaJson properties = SchemaJson::object();
  for (const SchemaJson* const each : {&a, &b}) {
    const SchemaJson& other = each == &a ? b : a;
    if (!each->contains("properties")) continue;
    for (const auto& [name, schema] : (*each)["properties"].items()) {
      if (properties.contains(name)) continue;
      const bool in_both = other.contains("properties") && other["properties"].contains(name);
      properties[name] = Both(schema, in_both ? other["properties"][name] : Others(other, kOthers));
    }
  }
  if (!properties.empty()) (*into)["properties"] = std::move(properties);
}

/// `prefixItems` and `items`, in the same way.
void MergeArrays(const SchemaJson& a, const SchemaJson& b, SchemaJson* into) {
  if (a.contains("items") || b.contains("items"))
    (*into)["items"] = Both(Others(a, "items"), Others(b, "items"));
  SchemaJson prefix = SchemaJson::array();
  const auto item = [](const SchemaJson& schema, size_t i) {
    const bool named = schema.contains("prefixItems") && i < schema["prefixItems"].size();
    return named ? schema["prefixItems"][i] : Others(schema, "items");
  };
  const auto count = [](const SchemaJson& schema) {
    return schema.contains("prefixItems") ? schema["prefixItems"].size() : 0;
  };
  for (size_t i = 0; i < std::max(count(a), count(b)); ++i)
    prefix.push_back(Both(item(a, i), item(b, i)));
  if (!prefix.empty()) (*into)["prefixItems"] = std::move(prefix);
}

}  // namespace

Error SchemaError(ErrorCode code, const std::string& where, const std::string& what) {
  return {code, "JSON schema: " + where + ": " + what};
}

bool Restricts(std::string_view keyword) { return FindKeyword(keyword) != nullptr; }

std::string TypeOfValue(const SchemaJson& value) {
  if (value.is_number_float()) {
    const double number = value.get<double>();
    return number == static_cast<double>(static_cast<int64_t>(std::clamp(number, -9e15, 9e15)))
               ? "integer"
               : "number";
  }
  return value.is_number() ? "integer" : value.type_name();
}

Result<std::vector<std::string>> TypesOf(const SchemaJson& schema, const std::string& where) {
  if (schema.is_boolean()) return schema == true ? kAllTypes : std::vector<std::string>();
  std::vector<std::string> types;
  if (schema.contains("type")) {
    const SchemaJson& type = schema["type"];
    const SchemaJson list = type.is_array() ? type : SchemaJson::array({type});
    for (const SchemaJson& each : list) {
      if (!each.is_string() || (!Includes(kAllTypes, each.get<std::string>())))
        return SchemaError(ErrorCode::kInvalidInput, where,
                           "\"type\" must be object, array, string, number, integer, boolean or "
                           "null, or a list of these");
      types.push_back(each.get<std::string>());
    }
    return types;
  }
  if (const SchemaJson values = ValuesOf(schema); values.is_array()) {
    for (const SchemaJson& value : values) {
      if (const std::string type = TypeOfValue(value); !Includes(types, type))
        types.push_back(type);
    }
    return types;
  }
  for (const auto& [name, value] : schema.items()) {
    const Keyword* const keyword = FindKeyword(name);
    if (keyword == nullptr || keyword->type.empty()) continue;
    // As a description, `format` also stands beside numbers' types.
    if (const std::string type(keyword->type); !Includes(types, type)) types.push_back(type);
  }
  return types.empty() ? kAllTypes : types;
}

Result<void> SchemaMerger::CountStep(const std::string& where) {
  if (++steps_ <= kMaxSteps) return {};
  return SchemaError(ErrorCode::kInvalidInput, where,
                     "joining allOf, anyOf and $ref takes more than " + std::to_string(kMaxSteps) +
                         " steps, which is the limit");
}

Result<const SchemaJson*> SchemaMerger::Resolve(const std::string& reference,
                                                const std::string& where) const {
  const auto nowhere = [&] {
    return SchemaError(ErrorCode::kInvalidInput, where,
                       "\"$ref\" must name a place in this schema, but \"" +
                           reference.substr(0, 200) + "\" does not");
  };
  if (reference == "#") return &root_;
  if (reference.starts_with("#/")) {
    try {
      const SchemaJson::json_pointer pointer(reference.substr(1));
      if (root_.contains(pointer)) return &root_.at(pointer);
    } catch (const SchemaJson::exception&) {
      return nowhere();  // nlohmann reports a malformed pointer so.
    }
  } else if (reference.starts_with('#') && root_.is_object()) {
    for (const char* const definitions : {"$defs", "definitions"}) {
      if (!root_.contains(definitions)) continue;
      for (const SchemaJson& each : root_[definitions]) {
        if (each.is_object() && each.contains("$anchor") && each["$anchor"] == reference.substr(1))
          return &each;
      }
    }
  }
  return nowhere();
}

Result<SchemaJson> SchemaMerger::Flatten(const SchemaJson& schema, const std::string& where) {
  return FlattenAt(schema, where, 0);
}

Result<SchemaJson> SchemaMerger::FlattenAt(const SchemaJson& schema, const std::string& where,
                                           int depth) {
  MOXIE_TRY(CountStep(where));
  if (depth > kMaxDepth)
    return SchemaError(ErrorCode::kInvalidInput, where,
                       "\"$ref\" and \"allOf\" lead into each other more than " +
                           std::to_string(kMaxDepth) + " times");
  MOXIE_TRY(CheckShapes(schema, where));
  if (!schema.is_object() || !(schema.contains("$ref") || schema.contains("allOf"))) return schema;
  SchemaJson result = SchemaJson::object();
  for (const auto& [name, value] : schema.items()) {
    if (name != "$ref" && name != "allOf" && Restricts(name)) result[name] = value;
  }
  if (schema.contains("$ref")) {
    MOXIE_TRY_ASSIGN(const SchemaJson* const target, Resolve(schema["$ref"], where));
    MOXIE_TRY_ASSIGN(const SchemaJson flat, FlattenAt(*target, where, depth + 1));
    MOXIE_TRY_ASSIGN(result, MergeAt(flat, result, where));
  }
  if (schema.contains("allOf")) {
    for (const SchemaJson& each : schema["allOf"]) {
      MOXIE_TRY_ASSIGN(const SchemaJson flat, FlattenAt(each, where, depth + 1));
      MOXIE_TRY_ASSIGN(result, MergeAt(result, flat, where));
    }
  }
  return result;
}

Result<SchemaJson> SchemaMerger::Merge(const SchemaJson& a, const SchemaJson& b,
                                       const std::string& where) {
  MOXIE_TRY_ASSIGN(const SchemaJson first, Flatten(a, where));
  MOXIE_TRY_ASSIGN(const SchemaJson second, Flatten(b, where));
  return MergeAt(first, second, where);
}

Result<SchemaJson> SchemaMerger::MergeAt(const SchemaJson& a, const SchemaJson& b,
                                         const std::string& where) {
  MOXIE_TRY(CountStep(where));
  if (a == false || b == false) return SchemaJson(false);
  if (!a.is_object()) return b;
  if (!b.is_object()) return a;
  SchemaJson merged = a;
  // `const` is an enumeration of one.
  const SchemaJson values[] = {ValuesOf(a), ValuesOf(b)};
  if (values[0].is_array() && values[1].is_array()) {
    SchemaJson common = SchemaJson::array();
    for (const SchemaJson& value : values[0]) {
      if (Holds(values[1], value)) common.push_back(value);
    }
    if (common.empty()) return SchemaJson(false);
    merged.erase("const");
    merged["enum"] = common;
  } else if (values[1].is_array()) {
    merged["enum"] = values[1];
  }
  if (a.contains("type") && b.contains("type")) {
    MOXIE_TRY_ASSIGN(const auto first, TypesOf(a, where));
    MOXIE_TRY_ASSIGN(const auto second, TypesOf(b, where));
    const std::vector<std::string> common = CommonTypes(first, second);
    if (common.empty()) return SchemaJson(false);
    merged["type"] = common;
  }
  for (const auto& [name, value] : b.items()) {
    if (name == "enum" || name == "const" || !Restricts(name)) continue;
    if (!a.contains(name)) {
      merged[name] = value;
    } else if (name != "type" && a[name] != value) {
      MOXIE_TRY(MergeKeyword(name, value, &merged, where));
    }
  }
  MergeObjects(a, b, &merged);
  MergeArrays(a, b, &merged);
  return merged;
}

Result<void> SchemaMerger::MergeKeyword(const std::string& keyword, const SchemaJson& value,
                                        SchemaJson* into, const std::string& where) {
  SchemaJson& own = (*into)[keyword];
  static constexpr std::array<std::string_view, 4> kLeast = {"minimum", "exclusiveMinimum",
                                                             "minLength", "minItems"};
  static constexpr std::array<std::string_view, 4> kMost = {"maximum", "exclusiveMaximum",
                                                            "maxLength", "maxItems"};
  const auto is_in = [&](const auto& list) {
    return std::find(list.begin(), list.end(), keyword) != list.end();
  };
  if (is_in(kLeast)) {
    if (own < value) own = value;
  } else if (is_in(kMost)) {
    if (value < own) own = value;
  } else if (keyword == "required") {
    for (const SchemaJson& name : value) {
      if (!Holds(own, name)) own.push_back(name);
    }
  } else if (keyword == "anyOf") {
    SchemaJson pairs = SchemaJson::array();
    for (const SchemaJson& first : own) {
      for (const SchemaJson& second : value) {
        MOXIE_TRY(CountStep(where));
        pairs.push_back(Both(first, second));
      }
    }
    own = std::move(pairs);
  } else if (keyword != "properties" && keyword != "additionalProperties" && keyword != "items" &&
             keyword != "prefixItems") {
    return SchemaError(ErrorCode::kUnsupported, where,
                       "two different values of \"" + keyword + "\" cannot be joined");
  }
  return {};
}

Result<bool> SchemaMerger::AreDisjoint(const SchemaJson& a, const SchemaJson& b,
                                       const std::string& where) {
  return Disjoint(a, b, where, 0);
}

Result<bool> SchemaMerger::Disjoint(const SchemaJson& given_a, const SchemaJson& given_b,
                                    const std::string& where, int depth) {
  if (depth > 8) return false;
  MOXIE_TRY_ASSIGN(const SchemaJson a, FlattenAt(given_a, where, 0));
  MOXIE_TRY_ASSIGN(const SchemaJson b, FlattenAt(given_b, where, 0));
  if (a == false || b == false) return true;
  if (!a.is_object() || !b.is_object()) return false;
  for (const bool swapped : {false, true}) {
    const SchemaJson& first = swapped ? b : a;
    const SchemaJson& second = swapped ? a : b;
    for (const char* const keyword : {"anyOf", "oneOf"}) {
      if (!first.contains(keyword)) continue;
      bool all = true;
      for (const SchemaJson& branch : first[keyword]) {
        MOXIE_TRY_ASSIGN(const bool disjoint, Disjoint(branch, second, where, depth + 1));
        all = all && disjoint;
      }
      if (all) return true;
    }
  }
  MOXIE_TRY_ASSIGN(const auto types_a, TypesOf(a, where));
  std::vector<std::string> types_b = kAllTypes;
  if (b.contains("type") || ValuesOf(b).is_array()) {
    MOXIE_TRY_ASSIGN(types_b, TypesOf(b, where));
  }
  const std::vector<std::string> common = CommonTypes(types_a, types_b);
  if (common.empty()) return true;
  const SchemaJson values_a = ValuesOf(a);
  const SchemaJson values_b = ValuesOf(b);
  if (values_a.is_array() && values_b.is_array())
    return std::none_of(values_a.begin(), values_a.end(),
                        [&](const SchemaJson& value) { return Holds(values_b, value); });
  if (common == std::vector<std::string>{"object"}) return PropertiesDisjoint(a, b, where, depth);
  return false;
}

/// Whether a property that one of two object schemas requires cannot be as the other wants it.
Result<bool> SchemaMerger::PropertiesDisjoint(const SchemaJson& a, const SchemaJson& b,
                                              const std::string& where, int depth) {
  const auto property = [](const SchemaJson& schema, const std::string& name) {
    const bool named = schema.contains("properties") && schema["properties"].contains(name);
    return named ? schema["properties"][name] : Others(schema, "additionalProperties");
  };
  for (const SchemaJson* const each : {&a, &b}) {
    if (!each->contains("required")) continue;
    for (const SchemaJson& name : (*each)["required"]) {
      MOXIE_TRY_ASSIGN(const bool disjoint,
                       Disjoint(property(a, name), property(b, name), where, depth + 1));
      if (disjoint) return true;
    }
  }
  return false;
}

}  // namespace moxie
