#pragma once

#include <span>
#include <string>

#include "moxie/quantize.h"

namespace moxie::cli {

/// The types that were chosen, a row a layer and a column a kind of matrix; of experts how many got
/// which. Tensors outside the layers come first.
std::string ChoicesTable(std::span<const QuantizeReport::Choice> choices);

}  // namespace moxie::cli
