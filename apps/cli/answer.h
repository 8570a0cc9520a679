#pragma once

#include <string>

#include "moxie/generate.h"
#include "moxie/model.h"

namespace moxie::cli {

/// The object that `run --json` prints.
std::string AnswerJson(const Model& model, const Completion& answer);

/// The table after an answer: speed, memory and, for a mixture, routing.
std::string AnswerTable(const Model& model, const Completion& answer);

/// How the tokens of an answer spread over the experts: the mean of all layers as bars, and the
/// layer that is spread least evenly.
std::string RoutingTable(const RoutingShares& routing);

}  // namespace moxie::cli
