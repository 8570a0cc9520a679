#include "engine/plan_speed.h"

#include <algorithm>
#include <cmath>
#include <numeric>
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
  if (disk_s > speed.decode.experts)
    return "the disk, which gives " + Gigabytes(machine.disk_bytes_per_s);
  const double rate = bytes_per_token / speed.decode.total();
  // A machine that was busy when it was measured, or whose memory is shared with others.
  const bool faster = rate > machine.memory_bytes_per_s;
  const std::string of = Gigabytes(rate) + " of weights, " +
                         (faster ? "more than memory gave when measured: " : "of memory's ") +
                         Gigabytes(machine.memory_bytes_per_s);
  return (rate > 0.7 * machine.memory_bytes_per_s ? "memory: " : "arithmetic: ") + of;
}

/// A layer's experts for one token, of which each is missing with this probability: on average over
/// how many are. Those that are there are computed with while others come, and of the last one what
/// is multiplied last, its down, remains to be done then. `computed`: seconds with all in memory;
/// `read`: of reading one.
double LayerSeconds(int64_t used, double missing, double computed, double read) {
  const auto n = static_cast<double>(used);
  const double down = n > 0 ? computed / n / 3 : 0;
  double sum = 0, ways = 1;
  for (int64_t missed = 0; missed <= used; ++missed) {
    const auto m = static_cast<double>(missed);
    const double probability = ways * std::pow(missing, m) * std::pow(1 - missing, n - m);
    if (probability > 0)  // Else `read` may be infinite.
      sum += probability * (missed == 0 ? computed : std::max(computed, m * read + down));
    ways *= (n - m) / (m + 1);
  }
  return sum;
}

/// A decoded token: only a layer's experts overlap with reading.
double DecodeSeconds(const ModelPlan& plan, const TokenSeconds& token, double hit_rate,
                     double read) {
  const auto layers = static_cast<double>(plan.mixture_layers);
  if (plan.mixture_layers == 0) return token.total();
  return token.total() - token.experts +
         layers * LayerSeconds(plan.experts_used, 1 - hit_rate, token.experts / layers, read);
}

/// From the disk, reading goes on beside taking memory and packing; out of the page cache the same
/// threads do all of it, one after another.
void PlanLoading(const ModelPlan& plan, const ProbedSpeeds& probed, const MachineSpeeds& machine,
                 double head_s, SpeedPlan& speed) {
  const auto bytes =
      static_cast<double>(plan.need.weights + (plan.streamed ? 0 : plan.need.experts));
  const double pack_s = probed.pack_others_s + (plan.streamed ? 0 : probed.pack_experts_s);
  if (machine.disk_bytes_per_s > 0 && machine.new_memory_bytes_per_s > 0)
    speed.load_s = head_s + std::max(bytes / machine.disk_bytes_per_s,
                                     bytes / machine.new_memory_bytes_per_s + pack_s);
  if (machine.cached_bytes_per_s > 0)
    speed.load_cached_s = head_s + bytes / machine.cached_bytes_per_s + pack_s;
}

}  // namespace

double DistinctExperts(const RouterConfig& router, double tokens) {
  const auto experts = static_cast<double>(router.experts);
  return experts * (1 - std::pow(1 - static_cast<double>(router.used) / experts, tokens));
}

double BytesFromDisk(double experts, double hit_rate, int64_t expert_bytes) {
  return experts * (1 - hit_rate) * static_cast<double>(expert_bytes);
}

SpeedPlan PlanSpeed(const ModelPlan& plan, const PromptWork& prompt, const ProbedSpeeds& probed,
                    const MachineSpeeds& machine, double head_s) {
  SpeedPlan speed;
  speed.decode = probed.decode;
  speed.prefill = probed.prefill;
  speed.disk_bytes_per_s = machine.disk_bytes_per_s;
  const auto layers = static_cast<double>(plan.mixture_layers);
  const auto disk_bytes = [&](double experts, double found) {
    return plan.streamed ? BytesFromDisk(layers * experts, found, plan.expert_bytes) : 0;
  };
  const auto disk_seconds = [&](double bytes) {
    return bytes > 0 ? bytes / machine.disk_bytes_per_s : 0;
  };
  const double decode_bytes = disk_bytes(static_cast<double>(plan.experts_used), plan.hit_rate);
  const double decode_disk = disk_seconds(decode_bytes);
  speed.bytes_from_disk = std::llround(decode_bytes);
  const double expert_s = plan.streamed ? disk_seconds(static_cast<double>(plan.expert_bytes)) : 0;
  speed.decode_tokens_per_s =
      1 / DecodeSeconds(plan, probed.decode, plan.streamed ? plan.hit_rate : 1, expert_s);
  const auto batch = static_cast<double>(std::min(plan.pass_tokens, prompt.tokens));
  const double room = static_cast<double>(plan.expert_slots) /
                      static_cast<double>(std::max<int64_t>(plan.experts, 1));
  const double prefill_disk = disk_seconds(disk_bytes(prompt.distinct_experts, room)) / batch;
  const double waited = std::max(0.0, prefill_disk - probed.prefill.experts);
  speed.prefill_tokens_per_s = 1 / (probed.prefill.total() + waited);
  PlanLoading(plan, probed, machine, head_s, speed);
  speed.limit = LimitOf(speed, static_cast<double>(plan.bytes_per_token), decode_disk, machine);
  return speed;
}

std::optional<int64_t> MemoryForSpeed(const ModelPlan& plan, double tokens_per_s) {
  const SpeedPlan& speed = *plan.speed;
  if (1 / tokens_per_s < speed.decode.total()) return std::nullopt;
  if (plan.experts == 0) return plan.all_bytes;
  const double expert_s = static_cast<double>(plan.expert_bytes) / speed.disk_bytes_per_s;
  const auto enough = [&](int64_t cached) {
    const double hit_rate = static_cast<double>(cached) / static_cast<double>(plan.experts);
    return DecodeSeconds(plan, speed.decode, hit_rate, expert_s) <= 1 / tokens_per_s;
  };
  // More experts in memory are never slower.
  int64_t too_few = -1, cached = plan.experts;
  while (cached - too_few > 1) {
    const int64_t middle = std::midpoint(too_few, cached);
    (enough(middle) ? cached : too_few) = middle;
  }
  return std::min(plan.least_bytes + cached * plan.expert_bytes, plan.all_bytes);
}

}  // namespace moxie
