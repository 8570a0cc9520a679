#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "convert/importance_file.h"
#include "convert/knapsack.h"
#include "convert/tensor_plan.h"
#include "core/thread_pool.h"
#include "moxie/model.h"
#include "moxie/result.h"

namespace moxie {

/// What each tensor costs in each type that it may have: bytes, and the divergence that its errors
/// are expected to cause. Tensors that are not to be quantised, and those that `model` has no
/// matrix for, have one option.
///
/// A tensor's divergence in a type is that measured with it in four bits (Prober), times the ratio
/// of squared errors of the two types, weighed by importance. Of a mixture eight bits are measured,
/// too, for all of a layer at once, and the part that errors' changing the choice of experts has in
/// both grows with the root of the squared errors: rerouting's, whose squares add up. The errors
/// are those of encoding rows spread over the tensor. Experts are measured together, layer by
/// layer; each one's share is its errors' by how much it is used (Prober::ExpertUse). So a probe or
/// two a matrix and layer serve all types, and the cost of probing does not grow with the number of
/// experts.
///
///   model    the one that `tensors` are of, in memory
///   text     what it is probed with
///   kept     a file that the probes' divergences are read from where it exists, and added to, so
///            that other sizes need not measure them again; or empty
///   progress told the share done; false stops
///
/// Errors: those of Prober, Importance::Weights, ReadProbes and MergeProbes; kInvalidInput where
/// `kept` is of another model; kCancelled.
Result<std::vector<std::vector<TypeOption>>> MeasureTypeCosts(
    std::span<const PlannedTensor> tensors, Model& model, std::string_view text,
    const Importance& importance, const std::string& kept,
    const std::function<bool(double share)>& progress);

}  // namespace moxie
