#include "memory/resident_weights.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <iterator>
#include <system_error>
#include <tuple>
#include <vector>

#include "core/thread.h"
#include "model/outline.h"

namespace moxie {
namespace {

/// Reads of this size let progress be shown and keep the reader's blocks in flight.
constexpr int64_t kReadBytes = int64_t{16} << 20;
constexpr int kReadsQueued = 8;
constexpr int64_t kPopulatedBytes = int64_t{4} << 20;  // At once, by one thread.

/// Takes memory from the system, piece by piece, until all is there or it goes out of scope.
class Populator {
 public:
  Populator(const PageBuffer& memory, int helpers) : memory_(memory) {
    try {
      for (int i = 0; i < helpers; ++i) {
        threads_.emplace_back([this] {
          while (PopulateNext()) continue;
        });
      }
    } catch (const std::system_error&) {
      return;  // It comes as it is read into.
    }
  }
  ~Populator() { next_ = memory_.size(); }
  Populator(const Populator&) = delete;
  Populator& operator=(const Populator&) = delete;

 private:
  bool PopulateNext() {
    const int64_t at = next_.fetch_add(kPopulatedBytes);
    if (at >= memory_.size()) return false;
    memory_.Populate(at, std::min(kPopulatedBytes, memory_.size() - at));
    return true;
  }

  const PageBuffer& memory_;
  std::atomic<int64_t> next_{0};
  std::vector<Thread> threads_;
};

}  // namespace

void ForEachMatrix(ModelWeights& weights, ResidentPart part,
                   FunctionRef<void(WeightMatrix&)> visit) {
  ForEachSharedMatrix(weights, visit);
  for (LayerWeights& layer : weights.layers) {
    for (FeedForwardWeights& expert : layer.experts) {
      if (part == ResidentPart::kAllButExperts && LiesInFiles(expert)) continue;
      for (StoredMatrix* stored : {&expert.gate, &expert.up, &expert.down}) visit(stored->matrix);
    }
  }
}

WeightPlaces PlacesOf(const ModelConfig& config, ModelWeights& weights, const TensorFiles& files) {
  WeightPlaces places;
  places.shared = ResidentRanges(weights, files, ResidentPart::kAllButExperts).bytes();
  places.experts = ResidentRanges(weights, files, ResidentPart::kAll).bytes() - places.shared;
  places.heap = CountBytes(config, weights).vectors;
  ForEachMatrix(weights, ResidentPart::kAll, [&](WeightMatrix& matrix) {
    if (files.Locate(matrix.data).file < 0) places.heap += matrix.bytes();
  });
  return places;
}

WeightPlaces PlacesOfOutline(const ModelConfig& config, ModelWeights& outline) {
  const WeightBytes bytes = CountBytes(config, outline);
  WeightPlaces places{.shared = bytes.matrices, .experts = bytes.experts, .heap = bytes.vectors};
  ForEachSharedMatrix(outline, [&](WeightMatrix&) { places.shared += kPageBytes; });
  return places;
}

ResidentRanges::ResidentRanges(ModelWeights& weights, const TensorFiles& files, ResidentPart part) {
  ForEachMatrix(weights, part, [&](WeightMatrix& matrix) {
    const TensorFiles::Place place = files.Locate(matrix.data);
    if (place.file < 0) return;
    const uint64_t end = place.offset + static_cast<uint64_t>(matrix.bytes());
    ranges_.push_back(
        {.file = place.file,
         .begin = static_cast<uint64_t>(RoundDownToPage(static_cast<int64_t>(place.offset))),
         .end = static_cast<uint64_t>(RoundUpToPage(static_cast<int64_t>(end)))});
  });
  std::ranges::sort(ranges_, {}, [](const Range& r) { return std::tuple(r.file, r.begin, r.end); });
  // Ranges that touch become one, so that no page is held twice.
  std::vector<Range> joined;
  for (const Range& range : ranges_) {
    if (!joined.empty() && joined.back().file == range.file && range.begin <= joined.back().end) {
      joined.back().end = std::max(joined.back().end, range.end);
    } else {
      joined.push_back(range);
    }
  }
  ranges_ = std::move(joined);
  for (Range& range : ranges_) {
    range.place = bytes_;
    bytes_ += static_cast<int64_t>(range.end - range.begin);
  }
}

int64_t ResidentRanges::PlaceOf(int file, uint64_t offset) const {
  const auto after =
      std::ranges::upper_bound(ranges_, std::tuple(file, offset), {},
                               [](const Range& r) { return std::tuple(r.file, r.begin); });
  const Range& range = *std::prev(after);
  return range.place + static_cast<int64_t>(offset - range.begin);
}

Result<PageBuffer> PlaceResident(ModelWeights& weights, const TensorFiles& files,
                                 const ResidentRanges& ranges, ResidentPart part) {
  MOXIE_TRY_ASSIGN(PageBuffer memory, PageBuffer::Create(ranges.bytes(), "weights"));
  ForEachMatrix(weights, part, [&](WeightMatrix& matrix) {
    const TensorFiles::Place place = files.Locate(matrix.data);
    if (place.file >= 0) matrix.data = memory.data() + ranges.PlaceOf(place.file, place.offset);
  });
  return memory;
}

/// After an error nothing is queued any more, but what is on its way is waited for: its memory must
/// stay until then.
Result<void> ReadResident(const ResidentRanges& ranges, const PageBuffer& memory,
                          FileReader& reader, int helpers,
                          FunctionRef<bool(const LoadedBytes&)> progress) try {
  const Populator populator(memory, helpers);
  Result<void> result;
  LoadedBytes loaded;
  // Of reads on their way, by their number modulo as many as there can be.
  std::array<int64_t, kReadsQueued> bytes_of = {};
  std::array<bool, kReadsQueued> arrived = {};
  int32_t first = 0, last = 0;  // Numbers of the first that is not there and of the next one.
  const auto take = [&] {
    std::optional<FileReader::Done> read = reader.Take(true);
    const auto slot = static_cast<size_t>(read->tag % kReadsQueued);
    arrived[slot] = true;
    loaded.done += bytes_of[slot];
    for (; first < last && arrived[static_cast<size_t>(first % kReadsQueued)]; ++first)
      loaded.whole += bytes_of[static_cast<size_t>(first % kReadsQueued)];
    if (!result) return;
    if (read->error) {
      result = *std::move(read->error);
    } else if (!progress(loaded)) {
      result = Error{ErrorCode::kCancelled, "loading was cancelled"};
    }
  };
  for (const ResidentRanges::Range& range : ranges.ranges()) {
    for (uint64_t at = range.begin; at < range.end && result;) {
      while (last - first == kReadsQueued) take();
      const int64_t bytes = std::min(kReadBytes, static_cast<int64_t>(range.end - at));
      bytes_of[static_cast<size_t>(last % kReadsQueued)] = bytes;
      arrived[static_cast<size_t>(last % kReadsQueued)] = false;
      reader.Queue({.file = range.file,
                    .offset = at,
                    .bytes = bytes,
                    .to = memory.data() + range.place + (at - range.begin),
                    .tag = last++});
      at += static_cast<uint64_t>(bytes);
    }
  }
  while (reader.pending() > 0) take();
  return result;
} catch (...) {
  reader.Abandon();  // The memory is about to go.
  throw;
}

}  // namespace moxie
