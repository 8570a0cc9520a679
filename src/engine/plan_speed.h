#pragma once

#include "engine/sizing.h"
#include "engine/speed_probe.h"
#include "moxie/machine.h"
#include "moxie/plan.h"

namespace moxie {

struct PromptWork {
  int64_t tokens = 0;
  double distinct_experts = 0;  ///< of a layer, that one pass of the prompt goes to
};

/// Of a layer, that some of `tokens` choose, on average where routing is even and independent from
/// token to token.
double DistinctExperts(const RouterConfig& router, double tokens);

/// The speed of a run that `plan` has planned the memory of: what was probed with all weights in
/// memory, and what reading experts adds. A layer's attention and router come before it is known
/// which experts to read; computing with experts overlaps with reading others, so of those two the
/// slower counts. Of those that a decoded token asks for, `plan.hit_rate` are found; of those of a
/// prompt, each of which is asked for once a pass, as many as there is room for. `head_s`: what
/// reading all but the weights took.
SpeedPlan PlanSpeed(const ModelPlan& plan, const PromptWork& prompt, const ProbedSpeeds& probed,
                    const MachineSpeeds& machine, double head_s);

/// Bytes of experts that are read where so many are asked for, on average.
double BytesFromDisk(double experts, double hit_rate, int64_t expert_bytes);

}  // namespace moxie
