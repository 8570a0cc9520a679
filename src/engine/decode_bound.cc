#include <algorithm>
#include <chrono>
#include <numeric>
#include <vector>

#include "engine/model_parts.h"
#include "engine/plan_speed.h"
#include "memory/streamed_store.h"
#include "moxie/plan.h"

namespace moxie {
namespace {

double DiskBytesPerToken(const Model::Parts& parts, const ExpertTraffic& traffic) {
  if (!parts.experts_on_disk()) return 0;
  const RouterConfig& router = parts.config.router;
  const double asked = static_cast<double>(router.used * StreamedExperts(parts.weights)) /
                       static_cast<double>(router.experts);
  const int64_t seen = traffic.hits + traffic.misses;
  if (seen == 0)
    return BytesFromDisk(asked, parts.planned_hit_rate, ExpertSlotBytes(parts.weights));
  return asked * static_cast<double>(traffic.bytes_read) / static_cast<double>(seen);
}

}  // namespace

DecodeBound BoundDecoding(const Model& model, const MachineSpeeds& machine,
                          const ExpertTraffic& traffic) {
  DecodeBound bound;
  bound.bytes_from_memory = static_cast<double>(model.bytes_per_token());
  bound.bytes_from_disk = DiskBytesPerToken(model.parts(), traffic);
  if (machine.memory_bytes_per_s <= 0) return bound;
  if (bound.bytes_from_disk > 0 && machine.disk_bytes_per_s <= 0) return bound;
  const double memory_s = bound.bytes_from_memory / machine.memory_bytes_per_s;
  const double disk_s =
      bound.bytes_from_disk > 0 ? bound.bytes_from_disk / machine.disk_bytes_per_s : 0;
  bound.by_disk = disk_s > memory_s;
  bound.tokens_per_s = 1 / std::max(memory_s, disk_s);
  return bound;
}

Result<double> MeasureExpertReading(Model& model) {
  constexpr double kSeconds = 2;
  ExpertStore& store = *model.parts().experts;
  const std::vector<LayerWeights>& layers = model.parts().weights.layers;
  std::vector<int32_t> experts;
  const int64_t before = store.traffic().bytes_read;
  const auto start = std::chrono::steady_clock::now();
  double seconds = 0;
  while (seconds < kSeconds) {
    for (size_t layer = 0; layer < layers.size() && seconds < kSeconds; ++layer) {
      experts.resize(layers[layer].experts.size());
      std::iota(experts.begin(), experts.end(), 0);
      MOXIE_TRY(store.Begin(static_cast<int64_t>(layer), experts));
      for (bool more = true; more;) {
        MOXIE_TRY_ASSIGN(const auto ready, store.Next());
        MOXIE_TRY(store.Complete());
        more = !ready.empty();
      }
      seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    }
  }
  return static_cast<double>(store.traffic().bytes_read - before) / seconds;
}

}  // namespace moxie
