#pragma once

#include <CLI/App.hpp>
#include <string>
#include <vector>

#include "moxie/constraint.h"

namespace moxie::cli {

/// Options that hold an answer to a form; at most one of them is given.
struct ConstraintArguments {
  std::string json_schema;  ///< JSON, or a file of it
  std::string grammar_file;
  std::string regex;
  std::vector<std::string> choices;
};

void AddConstraintOptions(CLI::App& command, ConstraintArguments& arguments);

/// What the options ask for; null where none is given.
Result<ConstraintPtr> MakeConstraint(const ConstraintArguments& arguments,
                                     const Tokenizer& tokenizer);

}  // namespace moxie::cli
