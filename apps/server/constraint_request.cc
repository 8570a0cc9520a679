#include "server/constraint_request.h"

#include <utility>

namespace moxie::server {
namespace {

using Kind = ConstraintRequest::Kind;

constexpr size_t kMostChoices = 10'000;
constexpr size_t kMostChoiceBytes = 4096;

/// A schema as an object, or as a text that holds one.
std::string SchemaText(const Json& schema) {
  return schema.is_string() ? schema.get<std::string>() : schema.dump();
}

ConstraintRequest ReadResponseFormat(Fields& fields) {
  ConstraintRequest format{.field = "response_format"};
  Fields within = fields.Within("response_format");
  const std::string type = within.String("type");
  if (type == "json_object") {
    format.kind = Kind::kJsonObject;
  } else if (type == "json_schema") {
    const Json* schema = within.Object("json_schema");
    if (schema != nullptr && schema->contains("schema")) {
      format.kind = Kind::kJsonSchema;
      format.text = (*schema)["schema"].dump();
    }
  }
  if (format.kind == Kind::kFree && type != "text")
    fields.Fail("response_format",
                " must have type text, json_object, or json_schema with json_schema.schema");
  return format;
}

/// Every field that asks for a form in `fields`, which are those of the body or of an object in it.
std::vector<ConstraintRequest> ReadForms(Fields& fields, const char* schema,
                                         const std::string& prefix) {
  std::vector<ConstraintRequest> forms;
  if (const Json* json = fields.Any(schema))
    forms.push_back({.kind = Kind::kJsonSchema, .text = SchemaText(*json), .field = schema});
  if (fields.Has("grammar"))
    forms.push_back({.kind = Kind::kGrammar, .text = fields.String("grammar"), .field = "grammar"});
  for (ConstraintRequest& form : forms) form.field.insert(0, prefix);
  return forms;
}

void ReadStructuredOutputs(Fields& fields, std::vector<ConstraintRequest>& forms) {
  const std::string prefix = "structured_outputs.";
  Fields within = fields.Within("structured_outputs");
  for (ConstraintRequest& form : ReadForms(within, "json", prefix))
    forms.push_back(std::move(form));
  if (within.Bool("json_object", false))
    forms.push_back({.kind = Kind::kJsonObject, .field = prefix + "json_object"});
  if (within.Has("regex"))
    forms.push_back(
        {.kind = Kind::kRegex, .text = within.String("regex"), .field = prefix + "regex"});
  if (within.Has("choice"))
    forms.push_back({.kind = Kind::kChoice,
                     .choices = within.Strings("choice", kMostChoices, kMostChoiceBytes),
                     .field = prefix + "choice"});
}

}  // namespace

ConstraintRequest ReadConstraintRequest(Fields& fields) {
  std::vector<ConstraintRequest> forms = ReadForms(fields, "json_schema", "");
  if (fields.Has("response_format")) forms.push_back(ReadResponseFormat(fields));
  if (fields.Has("structured_outputs")) ReadStructuredOutputs(fields, forms);
  if (forms.size() > 1) fields.Fail(forms[1].field, " does not go with " + forms[0].field);
  return forms.empty() || !fields.ok() ? ConstraintRequest() : std::move(forms.front());
}

Result<ConstraintPtr> MakeConstraint(ModelHost& host, const ConstraintRequest& format) {
  const auto make = [&]() -> Result<ConstraintPtr> {
    const ConstraintCompiler& compiler = host.constraints();
    switch (format.kind) {
      case Kind::kJsonObject:
        return compiler.JsonObject();
      case Kind::kJsonSchema:
        return compiler.JsonSchema(format.text);
      case Kind::kRegex:
        return compiler.Regex(format.text);
      case Kind::kChoice:
        return compiler.Choice(format.choices);
      case Kind::kGrammar:
        return compiler.Gbnf(format.text);
      case Kind::kFree:
        break;
    }
    return ConstraintPtr();
  };
  if (format.kind == Kind::kFree) return make();
  const std::string key = std::to_string(static_cast<int>(format.kind)) + " " + format.text +
                          Json(format.choices).dump();
  return host.constraint_cache().Get(key, make);
}

}  // namespace moxie::server
