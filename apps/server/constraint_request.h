#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "server/json.h"
#include "server/model_host.h"

namespace moxie::server {

/// What a request demands of its answer's form.
struct ConstraintRequest {
  enum class Kind : uint8_t { kFree, kJsonObject, kJsonSchema, kRegex, kChoice, kGrammar };
  Kind kind = Kind::kFree;
  std::string text = {};  ///< the schema, expression or grammar
  std::vector<std::string> choices = {};
  std::string field = {};  ///< that says so
};

/// Reads OpenAI's response_format, llama.cpp's grammar and json_schema, or vLLM's
/// structured_outputs (json, json_object, regex, choice or grammar), of which one may be given.
ConstraintRequest ReadConstraintRequest(Fields& fields);

/// Null for kFree. Errors: those of ConstraintCompiler.
Result<ConstraintPtr> MakeConstraint(ModelHost& host, const ConstraintRequest& format);

}  // namespace moxie::server
