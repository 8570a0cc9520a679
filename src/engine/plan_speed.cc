#include "engine/plan_speed.h"

#include <algorithm>
#include <cmath>
#include <string>

namespace moxie {
namespace {

std::string Gigabytes(double bytes) {
  const auto tenths = static_cast<int64_t>(std::llround(bytes / 1e8));
  return std::to_string(tenths / 10) + "." + std::to_string(tenths % 10) + " GB/s";
}

/// Why decoding is not faster. Weights that come from memory at most of its rate cannot come
/// faster.
std::string LimitOf(const SpeedPlan& speed, double bytes_per_token, double disk_s,
                    const MachineSpeeds& machine) {
  if (disk_s > speed.seconds_experts)
    return "the disk, which gives " + Gigabytes(machine.disk_bytes_per_s);
  const double rate = bytes_per_token / speed.seconds_computed;
  const std::string of =
      Gigabytes(rate) + " of weights, of memory's " + Gigabytes(machine.memory_bytes_per_s);
  return (rate > 0.7 * machine.memory_bytes_per_s ? "memory: " : "arithmetic: ") + of;
}

/// Experts of a layer that some of `tokens` choose, on average.
double DistinctExperts(const RouterConfig& router, double tokens) {
  const auto experts = static_cast<double>(router.experts);
  return experts * (1 - std::pow(1 - static_cast<double>(router.used) / experts, tokens));
}

}  // namespace

double BytesFromDisk(double experts, double hit_rate, int64_t expert_bytes) {
  return experts * (1 - hit_rate) * static_cast<double>(expert_bytes);
}

SpeedPlan PlanSpeed(const ModelConfig& config, const ModelPlan& plan, const ProbedSpeeds& probed,
                    const MachineSpeeds& machine, int64_t prompt_tokens) {
  SpeedPlan speed;
  speed.seconds_computed = probed.decode.total();
  speed.seconds_experts = probed.decode.experts;
  const auto sparse_layers = static_cast<double>(
      std::ranges::count_if(config.layers, [](const LayerConfig& layer) { return layer.sparse; }));
  const auto disk_bytes = [&](double experts) {
    return plan.streamed ? BytesFromDisk(sparse_layers * experts, plan.hit_rate, plan.expert_bytes)
                         : 0;
  };
  const auto disk_seconds = [&](double bytes) {
    return bytes > 0 ? bytes / machine.disk_bytes_per_s : 0;
  };
  const double decode_bytes = disk_bytes(static_cast<double>(config.router.used));
  const double decode_disk = disk_seconds(decode_bytes);
  speed.bytes_from_disk = std::llround(decode_bytes);
  const auto seconds = [](const PassSeconds& pass, double disk) {
    return pass.head + pass.rest + std::max(pass.experts, disk);
  };
  speed.decode_tokens_per_s = 1 / seconds(probed.decode, decode_disk);
  const auto batch = static_cast<double>(std::min(plan.pass_tokens, prompt_tokens));
  const double prefill_disk =
      disk_seconds(disk_bytes(DistinctExperts(config.router, batch))) / batch;
  speed.prefill_tokens_per_s = 1 / seconds(probed.prefill, prefill_disk);
  const auto loaded =
      static_cast<double>(plan.need.weights + (plan.streamed ? 0 : plan.need.experts));
  if (machine.disk_bytes_per_s > 0) speed.load_s = loaded / machine.disk_bytes_per_s;
  speed.limit = LimitOf(speed, static_cast<double>(plan.bytes_per_token), decode_disk, machine);
  return speed;
}

std::optional<int64_t> MemoryForSpeed(const ModelPlan& plan, const MachineSpeeds& machine,
                                      double tokens_per_s) {
  const SpeedPlan& speed = *plan.speed;
  const double spare = 1 / tokens_per_s - (speed.seconds_computed - speed.seconds_experts);
  if (1 / tokens_per_s < speed.seconds_computed) return std::nullopt;
  if (plan.experts == 0) return plan.all_bytes;
  // Reading may take what is spare: so many of a token's experts may be missing.
  const double wanted = spare * machine.disk_bytes_per_s / static_cast<double>(plan.expert_bytes);
  const double missing = std::min(1.0, wanted / plan.experts_per_token);
  const double cached = std::ceil((1 - missing) * static_cast<double>(plan.experts));
  const int64_t bytes = plan.least_bytes + static_cast<int64_t>(cached) * plan.expert_bytes;
  return std::min(bytes, plan.all_bytes);
}

}  // namespace moxie
