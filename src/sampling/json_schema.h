#pragma once

#include <string_view>

#include "moxie/constraint.h"
#include "moxie/result.h"
#include "sampling/grammar.h"

namespace moxie {

/// The JSON texts that satisfy a schema (draft 2020-12) as a rule. Several schemas may share a
/// builder.
///
/// Errors: kInvalidInput for malformed JSON or a malformed schema, kUnsupported for a keyword that
/// restricts and is not supported; each with the place as a JSON pointer.
Result<GrammarBuilder::Rule> AddJsonSchema(std::string_view schema,
                                           const JsonSchemaOptions& options,
                                           GrammarBuilder* builder);

}  // namespace moxie
