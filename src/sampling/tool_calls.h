#pragma once

#include <string_view>

#include "moxie/constraint.h"
#include "moxie/result.h"
#include "sampling/grammar.h"

namespace moxie {

/// ConstraintCompiler::ToolCalls as a rule.
Result<GrammarBuilder::Rule> AddToolCalls(std::string_view tools, const ToolCallOptions& options,
                                          const Tokenizer& tokenizer, GrammarBuilder* builder);

}  // namespace moxie
