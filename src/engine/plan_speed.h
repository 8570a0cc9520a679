#pragma once

#include "engine/sizing.h"
#include "engine/speed_probe.h"
#include "moxie/machine.h"
#include "moxie/plan.h"

namespace moxie {

/// The speed of a run that `plan` has planned the memory of: what was probed with all weights in
/// memory, and what reading experts adds. A layer's attention and router come before it is known
/// which experts to read; computing with experts overlaps with reading others, so of those two the
/// slower counts. Routing is taken as even and independent from token to token.
SpeedPlan PlanSpeed(const ModelConfig& config, const ModelPlan& plan, const ProbedSpeeds& probed,
                    const MachineSpeeds& machine, int64_t prompt_tokens);

/// Bytes of experts that are read where so many are asked for, on average.
double BytesFromDisk(double experts, double hit_rate, int64_t expert_bytes);

}  // namespace moxie
