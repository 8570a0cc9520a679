#include "sampling/json_schema.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "formats/json.h"
#include "sampling/json_formats.h"
#include "sampling/json_numbers.h"
#include "sampling/json_text.h"
#include "sampling/regex_grammar.h"
#include "sampling/schema_merge.h"

namespace moxie {
namespace {

using Part = GrammarBuilder::Part;
using Rule = GrammarBuilder::Rule;
using State = GrammarBuilder::State;

constexpr JsonLimits kLimits = {
    .bytes = size_t{1} << 20, .depth = 128, .values = 100'000, .ordered_members = 4096};
constexpr size_t kMaxSchemas = 20'000;

/// Keywords that Flatten and the code below deal with; the others that restrict are refused.
constexpr std::string_view kSupported[] = {"anyOf",
                                           "oneOf",
                                           "type",
                                           "enum",
                                           "const",
                                           "properties",
                                           "required",
                                           "additionalProperties",
                                           "items",
                                           "prefixItems",
                                           "minItems",
                                           "maxItems",
                                           "minLength",
                                           "maxLength",
                                           "pattern",
                                           "format",
                                           "minimum",
                                           "maximum",
                                           "exclusiveMinimum",
                                           "exclusiveMaximum"};

uint32_t CountOf(const SchemaJson& schema, const char* keyword, uint32_t absent) {
  return schema.contains(keyword) ? static_cast<uint32_t>(schema[keyword].get<double>()) : absent;
}

std::string Plain(const SchemaJson& number) {
  if (!number.is_number_float()) return number.dump();
  char buffer[400];
  const auto end =
      std::to_chars(buffer, buffer + sizeof buffer, number.get<double>(), std::chars_format::fixed)
          .ptr;
  return {buffer, end};
}

class SchemaCompiler {
 public:
  SchemaCompiler(const SchemaJson& root, const JsonSchemaOptions& options, GrammarBuilder* builder)
      : options_(options), builder_(*builder), text_(builder, options.whitespace), merger_(root) {}

  Result<Rule> Compile(const SchemaJson& root) {
    const Rule start = RuleOf(root, "#");
    // Schemas wait in a list, so that references of any depth take no stack.
    for (; !waiting_.empty(); waiting_.pop_front()) {
      const Waiting& next = waiting_.front();
      MOXIE_TRY_ASSIGN(const Part part, PartOf(next.schema, next.where));
      builder_.Define(next.rule, part);
      MOXIE_TRY(builder_.Check());
      if (made_ > kMaxSchemas)
        return SchemaError(ErrorCode::kInvalidInput, "#",
                           "it comes to more than " + std::to_string(kMaxSchemas) +
                               " schemas, which is the limit");
    }
    return start;
  }

 private:
  struct Waiting {
    Rule rule = 0;
    SchemaJson schema;
    std::string where;
  };

  /// A rule for a schema. Those that refer or join are made once each, or recursion had no end.
  Rule RuleOf(const SchemaJson& schema, const std::string& where) {
    const bool shared = schema.is_object() && (schema.contains("$ref") || schema.contains("allOf"));
    const std::string key = shared ? schema.dump() : "";
    if (const auto known = rules_.find(key); shared && known != rules_.end()) return known->second;
    ++made_;
    const Rule rule = builder_.Declare(where);
    if (made_ <= kMaxSchemas) waiting_.push_back({rule, schema, where});
    if (shared) rules_.emplace(key, rule);
    return rule;
  }

  Part Call(const SchemaJson& schema, const std::string& where) {
    return builder_.Call(RuleOf(schema, where));
  }

  Result<Part> PartOf(const SchemaJson& given, const std::string& where) {
    MOXIE_TRY_ASSIGN(const SchemaJson schema, merger_.Flatten(given, where));
    if (schema.is_boolean())
      return schema == true ? builder_.Call(text_.AnyValue()) : builder_.Never();
    MOXIE_TRY(CheckKeywords(schema, where));
    for (const char* const keyword : {"anyOf", "oneOf"}) {
      if (schema.contains(keyword)) return Branches(schema, keyword, where);
    }
    if (schema.contains("enum") || schema.contains("const")) return Values(schema, where);
    return Types(schema, where);
  }

  Result<void> CheckKeywords(const SchemaJson& schema, const std::string& where) {
    for (const auto& [name, value] : schema.items()) {
      const bool idle =
          (name == "uniqueItems" && value == false) ||
          (name == "minProperties" && MembersSuffice(schema, value)) ||
          ((name == "unevaluatedProperties" || name == "unevaluatedItems") && value == true);
      const bool supported =
          std::find(std::begin(kSupported), std::end(kSupported), name) != std::end(kSupported);
      if (!Restricts(name) || supported || idle) continue;
      return SchemaError(ErrorCode::kUnsupported, where,
                         "the keyword \"" + name + "\" is not supported");
    }
    return {};
  }

  /// Whether an object has at least so many members anyway.
  static bool MembersSuffice(const SchemaJson& schema, const SchemaJson& count) {
    const size_t required = schema.contains("required") ? schema["required"].size() : 0;
    return count.get<double>() <= static_cast<double>(std::max<size_t>(required, 1));
  }

  Result<Part> Branches(const SchemaJson& schema, const char* keyword, const std::string& where) {
    SchemaJson rest = schema;
    rest.erase(keyword);
    std::vector<SchemaJson> branches;
    std::vector<Part> parts;
    for (const SchemaJson& branch : schema[keyword]) {
      const std::string at = where + "/" + keyword + "/" + std::to_string(parts.size());
      SchemaJson merged = branch;
      if (std::any_of(rest.items().begin(), rest.items().end(),
                      [](const auto& item) { return Restricts(item.key()); })) {
        MOXIE_TRY_ASSIGN(merged, merger_.Merge(rest, branch, at));
      }
      branches.push_back(merged);
      parts.push_back(Call(merged, at));
    }
    for (size_t i = 0; keyword == std::string_view("oneOf") && i < branches.size(); ++i) {
      for (size_t k = 0; k < branches.size(); ++k) {
        if (i == k) continue;
        MOXIE_TRY_ASSIGN(const bool disjoint, merger_.AreDisjoint(branches[i], branches[k], where));
        if (!disjoint)
          return SchemaError(ErrorCode::kUnsupported, where,
                             "schemas " + std::to_string(std::min(i, k)) + " and " +
                                 std::to_string(std::max(i, k)) +
                                 " of \"oneOf\" might both hold; use \"anyOf\", or tell them apart "
                                 "by a type or a constant");
      }
    }
    return builder_.Choice(parts);
  }

  Result<Part> Values(const SchemaJson& schema, const std::string& where) {
    for (const auto& [name, value] : schema.items()) {
      if (Restricts(name) && name != "enum" && name != "const" && name != "type")
        return SchemaError(ErrorCode::kUnsupported, where,
                           "\"" + name + "\" beside \"enum\" or \"const\" is not supported");
    }
    std::vector<SchemaJson> values;
    if (schema.contains("enum")) values.assign(schema["enum"].begin(), schema["enum"].end());
    if (schema.contains("const")) {
      std::erase_if(values, [&](const SchemaJson& v) { return v != schema["const"]; });
      if (!schema.contains("enum")) values = {schema["const"]};
    }
    std::vector<Part> parts;
    std::vector<std::string> simple;
    for (const SchemaJson& value : values) {
      if (schema.contains("type")) {
        MOXIE_TRY_ASSIGN(const auto types, TypesOf(schema, where));
        const std::string type = TypeOfValue(value);
        const bool fits = std::any_of(types.begin(), types.end(), [&](const std::string& each) {
          return each == type || (each == "number" && type == "integer");
        });
        if (!fits) continue;
      }
      if (value.is_structured()) {
        parts.push_back(text_.Value(value));
      } else {
        simple.push_back(value.dump(-1, ' ', false, SchemaJson::error_handler_t::replace));
      }
    }
    if (!simple.empty()) parts.push_back(builder_.OneOf(std::move(simple)));
    return builder_.Choice(parts);
  }

  Result<Part> Types(const SchemaJson& schema, const std::string& where) {
    MOXIE_TRY_ASSIGN(const auto types, TypesOf(schema, where));
    std::vector<Part> parts;
    for (const std::string& type : types) {
      MOXIE_TRY_ASSIGN(const Part part, TypePart(schema, type, where));
      parts.push_back(part);
    }
    return builder_.Choice(parts);
  }

  Result<Part> TypePart(const SchemaJson& schema, const std::string& type,
                        const std::string& where) {
    if (type == "object") return Object(schema, where);
    if (type == "array") return Array(schema, where);
    if (type == "string") return String(schema, where);
    if (type == "boolean") return builder_.OneOf({"true", "false"});
    if (type == "null") return builder_.Literal("null");
    return Number(schema, type == "integer", where);
  }

  Result<Part> String(const SchemaJson& schema, const std::string& where) {
    const bool sized = schema.contains("minLength") || schema.contains("maxLength");
    std::optional<std::string> pattern;
    if (schema.contains("format")) {
      const std::string format = schema["format"];
      const auto known = PatternOfFormat(format);
      if (!known)
        return SchemaError(ErrorCode::kUnsupported, where,
                           "the format \"" + format.substr(0, 100) + "\" is not supported");
      pattern = std::string(*known);
    }
    if (schema.contains("pattern")) {
      if (pattern)
        return SchemaError(ErrorCode::kUnsupported, where,
                           "\"pattern\" beside \"format\" is not supported");
      pattern = schema["pattern"];
    }
    if (!pattern) {
      const uint32_t min = CountOf(schema, "minLength", 0);
      const uint32_t max = CountOf(schema, "maxLength", kUnboundedRepeat);
      if (max < min) return builder_.Never();
      return builder_.Call(sized ? text_.StringOf(min, max) : text_.AnyString());
    }
    if (sized)
      return SchemaError(ErrorCode::kUnsupported, where,
                         "\"minLength\" and \"maxLength\" beside \"pattern\" or \"format\" are not "
                         "supported; write the length into the pattern");
    RegexUse use{.search = true, .add_characters = {}};
    use.add_characters = [this](State from, std::span<const CodePointRange> ranges, State to) {
      text_.AddCharacters(from, ranges, to);
    };
    const Result<Part> inside = AddRegexPart(*pattern, use, &builder_);
    if (!inside) return SchemaError(inside.error().code, where, inside.error().message);
    return builder_.Sequence({builder_.Literal("\""), *inside, builder_.Literal("\"")});
  }

  Result<Part> Number(const SchemaJson& schema, bool whole, const std::string& where) {
    std::optional<NumberBound> least;
    std::optional<NumberBound> most;
    const auto tighten = [&](const char* keyword, bool excluded, bool lower,
                             std::optional<NumberBound>* bound) -> Result<void> {
      if (!schema.contains(keyword)) return {};
      const SchemaJson& value = schema[keyword];
      if (std::abs(value.get<double>()) >= 1e15)
        return SchemaError(ErrorCode::kUnsupported, where,
                           std::string("\"") + keyword + "\" of 10^15 and more is not supported");
      const double other = *bound ? std::stod((*bound)->decimal) : 0;
      const double own = value.get<double>();
      const bool tighter =
          !*bound || (lower ? own > other : own < other) || (own == other && excluded);
      if (tighter) *bound = NumberBound{Plain(value), excluded};
      return {};
    };
    MOXIE_TRY(tighten("minimum", false, true, &least));
    MOXIE_TRY(tighten("exclusiveMinimum", true, true, &least));
    MOXIE_TRY(tighten("maximum", false, false, &most));
    MOXIE_TRY(tighten("exclusiveMaximum", true, false, &most));
    if (!least && !most) return builder_.Call(whole ? text_.AnyInteger() : text_.AnyNumber());
    return whole ? IntegersBetween(least, most, &builder_) : NumbersBetween(least, most, &builder_);
  }

  Result<Part> Array(const SchemaJson& schema, const std::string& where) {
    const uint32_t min = CountOf(schema, "minItems", 0);
    const uint32_t max = CountOf(schema, "maxItems", kUnboundedRepeat);
    if (max < min) return builder_.Never();
    const auto prefix = schema.contains("prefixItems") ? schema["prefixItems"] : SchemaJson();
    const auto first = static_cast<uint32_t>(std::min<size_t>(prefix.size(), max));
    const SchemaJson items = schema.contains("items") ? schema["items"] : SchemaJson(true);
    const uint32_t rest_min = min > first ? min - first : 0;
    const uint32_t rest_max = max == kUnboundedRepeat ? max : max - first;
    const Rule item = items == true ? text_.AnyValue() : RuleOf(items, where + "/items");
    if (first == 0)
      return text_.Array(builder_.RepeatSeparated(item, text_.Separator(), rest_min, rest_max));
    const auto separator = [&] { return builder_.Call(text_.Separator()); };
    Part tail =
        builder_.Repeat(builder_.Sequence({separator(), builder_.Call(item)}), rest_min, rest_max);
    for (uint32_t i = first; i-- > 0;) {
      const Part own = Call(prefix[i], where + "/prefixItems/" + std::to_string(i));
      const Part part =
          i == 0 ? builder_.Sequence({own, tail}) : builder_.Sequence({separator(), own, tail});
      tail = i < min ? part : builder_.Optional(part);
    }
    return text_.Array(tail);
  }

  Result<Part> Object(const SchemaJson& schema, const std::string& where) {
    SchemaJson properties =
        schema.contains("properties") ? schema["properties"] : SchemaJson::object();
    const SchemaJson required =
        schema.contains("required") ? schema["required"] : SchemaJson::array();
    const SchemaJson others = schema.contains("additionalProperties")
                                  ? schema["additionalProperties"]
                                  : SchemaJson(options_.additional_properties);
    for (const SchemaJson& name : required) {
      if (!properties.contains(name.get<std::string>()))
        properties[name.get<std::string>()] =
            schema.contains("additionalProperties") ? others : SchemaJson(true);
    }
    const bool some = schema.contains("minProperties") && schema["minProperties"] != 0;
    return Members(properties, required, others, some, where);
  }

  /// Properties in their order; those not required may be left out. Two rows of states, before the
  /// first member and after one, since only there a comma precedes the next.
  Result<Part> Members(const SchemaJson& properties, const SchemaJson& required,
                       const SchemaJson& others, bool at_least_one, const std::string& where) {
    const Part inside = builder_.Never();
    State none = inside.entry;
    State some = builder_.NewState();
    std::vector<std::string> names;
    for (const auto& [name, schema] : properties.items()) {
      names.push_back(name);
      const std::string at = where + "/properties/" + name.substr(0, 100);
      const std::string key =
          SchemaJson(name).dump(-1, ' ', false, SchemaJson::error_handler_t::replace);
      const Rule member =
          builder_.MakeRule(at, text_.Member(builder_.Literal(key), Call(schema, at)));
      const State next_none = builder_.NewState();
      const State next_some = builder_.NewState();
      builder_.AddCall(none, member, next_some);
      const State after_comma = builder_.NewState();
      builder_.AddCall(some, text_.Separator(), after_comma);
      builder_.AddCall(after_comma, member, next_some);
      const bool needed = std::find(required.begin(), required.end(), name) != required.end();
      if (!needed) {
        builder_.AddEmpty(none, next_none);
        builder_.AddEmpty(some, next_some);
      }
      none = next_none;
      some = next_some;
    }
    if (others != false) {
      const Part key = names.empty() ? builder_.Call(text_.AnyString())
                                     : text_.StringOtherThan(std::move(names));
      const Rule member = builder_.MakeRule(
          where, text_.Member(key, Call(others, where + "/additionalProperties")));
      builder_.AddCall(none, member, some);
      const State after_comma = builder_.NewState();
      builder_.AddCall(some, text_.Separator(), after_comma);
      builder_.AddCall(after_comma, member, some);
    }
    if (!at_least_one) builder_.AddEmpty(none, inside.exit);
    builder_.AddEmpty(some, inside.exit);
    return text_.Object(inside);
  }

  const JsonSchemaOptions& options_;
  GrammarBuilder& builder_;
  JsonText text_;
  SchemaMerger merger_;
  std::map<std::string, Rule> rules_;
  std::deque<Waiting> waiting_;
  size_t made_ = 0;
};

}  // namespace

Result<Rule> AddJsonSchema(std::string_view schema, const JsonSchemaOptions& options,
                           GrammarBuilder* builder) {
  MOXIE_TRY_ASSIGN(const SchemaJson root, ParseOrderedJson(schema, "JSON schema", kLimits));
  return SchemaCompiler(root, options, builder).Compile(root);
}

}  // namespace moxie
