#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "convert/importance_file.h"
#include "convert/knapsack.h"
#include "convert/quantize_source.h"
#include "moxie/quantize.h"
#include "moxie/result.h"

namespace moxie {

/// Where a file keeps what was chosen for it: a line a matrix (ChoiceLine).
inline constexpr std::string_view kChoicesKey = "moxie.quantize.choices";

/// "blk.0.ffn_up.weight q4_k 1.2e-04\n": the divergence is the expected one.
std::string ChoiceLine(std::string_view tensor, const TypeOption& option);

struct SizeChoice {
  /// One for each of the source's tensors. Divergences add up: rerouting's is shared out.
  std::vector<TypeOption> options;
};

/// Chooses the types that keep a model closest to itself in the size that `options` asks for
/// (MeasureTypeCosts, ChooseWithin). Opens the model at `in`, whose tensors `source` holds, and
/// closes it. `importance` is measured where it is empty.
///
///   ruled  [tensors] a type that a tensor must have, or nothing
///
/// Errors: kInvalidInput where the size is below what the smallest types take; those of opening,
/// measuring importance and costs; kCancelled.
Result<SizeChoice> ChooseForSize(const std::string& in, const QuantizeSource& source,
                                 std::span<const std::optional<DType>> ruled,
                                 const QuantizeOptions& options, Importance& importance,
                                 const std::function<bool(double share)>& progress);

}  // namespace moxie
