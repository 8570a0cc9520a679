#include "memory/streamed_store.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <limits>
#include <utility>
#include <vector>

#include "core/page_buffer.h"
#include "memory/cache_policy.h"

namespace moxie {
namespace {

constexpr int32_t kNone = -1;
constexpr int64_t kMostPieceBytes = int64_t{1} << 30;  ///< that io_uring registers as one buffer

/// The whole pages that a matrix lies in.
struct Pages {
  uint64_t begin = 0;
  int64_t bytes = 0;
  int64_t skip = 0;  ///< from their start to the matrix

  explicit Pages(const StoredMatrix& stored) {
    const auto offset = static_cast<int64_t>(stored.offset);
    begin = static_cast<uint64_t>(RoundDownToPage(offset));
    skip = offset - RoundDownToPage(offset);
    bytes = RoundUpToPage(skip + stored.matrix.bytes());
  }
};

constexpr int kMatrices = 3;
constexpr uint8_t kAllParts = 0b111, kFirstParts = 0b011;  ///< bits of gate, up and down

/// In the order in which they are multiplied, and read.
std::array<const StoredMatrix*, kMatrices> MatricesOf(const FeedForwardWeights& expert) {
  return {&expert.gate, &expert.up, &expert.down};
}

int64_t PagesOf(const FeedForwardWeights& expert) {
  int64_t bytes = 0;
  for (const StoredMatrix* stored : MatricesOf(expert)) bytes += Pages(*stored).bytes;
  return bytes;
}

size_t MostExperts(const ModelWeights& weights) {
  size_t most = 0;
  for (const LayerWeights& layer : weights.layers) most = std::max(most, layer.experts.size());
  return most;
}

class StreamedExpertStore final : public ExpertStore {
 public:
  StreamedExpertStore(const ModelWeights& weights, FileReader& reader, PageBuffer memory,
                      int64_t slots)
      : weights_(weights),
        reader_(reader),
        memory_(std::move(memory)),
        slot_bytes_(ExpertSlotBytes(weights)),
        experts_per_layer_(MostExperts(weights)),
        policy_(std::ssize(weights.layers), static_cast<int64_t>(experts_per_layer_)),
        slot_of_(weights.layers.size() * experts_per_layer_, kNone),
        slots_(static_cast<size_t>(slots)),
        most_reads_(StreamReaderOptions(weights).max_reads) {
    // As many slots a piece as io_uring takes.
    const int64_t piece = std::max<int64_t>(1, kMostPieceBytes / slot_bytes_) * slot_bytes_;
    reader_.ExpectMemory({memory_.data(), static_cast<size_t>(slots * slot_bytes_)}, piece);
    missing_.reserve(experts_per_layer_);
    given_.reserve(experts_per_layer_);
    arrived_.reserve(experts_per_layer_);
    ready_.reserve(experts_per_layer_);
  }

  ~StreamedExpertStore() override { reader_.Abandon(); }

  Result<void> Begin(int64_t layer, std::span<const int32_t> experts) override;
  Result<std::span<const Ready>> Next() override;
  Result<void> Complete() override;
  void GoOnReading() override { reader_.GoOn(); }

  ExpertTraffic traffic() const override {
    ExpertTraffic traffic = traffic_;
    traffic.bytes_read = reader_.bytes_read() - bytes_before_;
    return traffic;
  }

  enum class State : uint8_t { kEmpty, kReading, kFull };
  struct Slot {
    int32_t item = kNone;
    State state = State::kEmpty;
    bool wanted = false;  ///< by the present Begin, and not yet given up by its user
    bool given = false;   ///< to it, or about to be
    uint8_t missing = 0;  ///< parts on their way
    std::optional<Error> error = {};
  };

 private:
  size_t ItemOf(int32_t expert) const {
    return static_cast<size_t>(layer_) * experts_per_layer_ + static_cast<size_t>(expert);
  }
  const FeedForwardWeights& WeightsOf(int32_t item) const {
    const auto index = static_cast<size_t>(item);
    return weights_.layers[index / experts_per_layer_].experts[index % experts_per_layer_];
  }
  void StartTurn();
  void ReadMissing();
  int32_t FreeSlot() const;
  void Read(int32_t item, int32_t slot);
  void TakeArrivals(bool wait);
  void Arrive(int32_t slot);
  void Give(int32_t slot);
  template <class Condition>
  void WaitWhile(Condition condition);

  const ModelWeights& weights_;
  FileReader& reader_;
  PageBuffer memory_;  ///< [slots, slot_bytes]
  const int64_t slot_bytes_;
  const size_t experts_per_layer_;
  NextUsePolicy policy_;
  std::vector<int32_t> slot_of_;  ///< [layers, experts] or kNone
  std::vector<Slot> slots_;
  const int most_reads_;
  const int64_t bytes_before_ = reader_.bytes_read();
  ExpertTraffic traffic_;
  // The present Begin.
  int64_t layer_ = 0;
  std::vector<int32_t> missing_;  ///< items to be read, in reverse
  std::vector<int32_t> given_;    ///< slots that Next gave last
  std::vector<int32_t> arrived_;  ///< slots that it can give
  std::vector<Ready> ready_;
  int reading_ = 0;  ///< slots with wanted experts on their way
  bool present_given_ = true;
  std::optional<Error> error_;  ///< the first one; its Begin ends with it
};

Result<void> StreamedExpertStore::Begin(int64_t layer, std::span<const int32_t> experts) {
  layer_ = layer;
  error_.reset();
  missing_.clear();
  StartTurn();
  arrived_.clear();
  reading_ = 0;
  for (Slot& slot : slots_) slot.wanted = slot.given = false;
  policy_.Visit(layer, experts);
  for (const int32_t expert : experts) {
    const auto item = static_cast<int32_t>(ItemOf(expert));
    if (!LiesInFiles(WeightsOf(item))) {
      ready_.push_back({expert, ViewOf(WeightsOf(item))});
      continue;
    }
    const int32_t slot = slot_of_[static_cast<size_t>(item)];
    if (slot == kNone) {
      ++traffic_.misses;
      missing_.push_back(item);
      continue;
    }
    ++traffic_.hits;
    slots_[static_cast<size_t>(slot)].wanted = true;
    if (slots_[static_cast<size_t>(slot)].state == State::kFull) {
      slots_[static_cast<size_t>(slot)].given = true;
      Give(slot);
    } else {
      ++reading_;  // A Begin that failed has asked for it.
      Arrive(slot);
    }
  }
  std::ranges::reverse(missing_);
  ReadMissing();
  present_given_ = false;
  return {};
}

Result<std::span<const ExpertStore::Ready>> StreamedExpertStore::Next() {
  if (error_) return *error_;  // Going on would leave out the expert that could not be read.
  if (!present_given_ && !ready_.empty()) {
    present_given_ = true;
    return std::span<const Ready>(ready_);
  }
  present_given_ = true;
  StartTurn();
  ReadMissing();
  TakeArrivals(false);
  WaitWhile([&] { return arrived_.empty() && (reading_ > 0 || !missing_.empty()); });
  if (error_) return *error_;
  for (const int32_t slot : arrived_) Give(slot);
  arrived_.clear();
  return std::span<const Ready>(ready_);
}

Result<void> StreamedExpertStore::Complete() {
  const auto on_its_way = [&](int32_t slot) {
    return slots_[static_cast<size_t>(slot)].state == State::kReading;
  };
  WaitWhile([&] { return std::ranges::any_of(given_, on_its_way); });
  if (error_) return *error_;
  return {};
}

/// Takes arrivals until the condition or a read fails, and counts the time.
template <class Condition>
void StreamedExpertStore::WaitWhile(Condition condition) {
  if (error_ || !condition()) return;
  const auto start = std::chrono::steady_clock::now();
  while (!error_ && condition()) {
    TakeArrivals(true);
    ReadMissing();  // All slots or reads may have been taken by Begins that failed.
  }
  traffic_.wait_s +=
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// What was given last may make room for others now.
void StreamedExpertStore::StartTurn() {
  for (const int32_t slot : given_) slots_[static_cast<size_t>(slot)].wanted = false;
  given_.clear();
  ready_.clear();
}

void StreamedExpertStore::ReadMissing() {
  // Reads of several Begins that failed may still be on their way.
  while (!missing_.empty() && reader_.pending() + kMatrices <= most_reads_) {
    const int32_t slot = FreeSlot();
    if (slot == kNone) return;
    Read(missing_.back(), slot);
    missing_.pop_back();
  }
}

/// An empty slot, or the one whose expert is to be given up; none while all are in use.
int32_t StreamedExpertStore::FreeSlot() const {
  int32_t best = kNone;
  double least = std::numeric_limits<double>::infinity();
  for (size_t i = 0; i < slots_.size(); ++i) {
    const Slot& slot = slots_[i];
    if (slot.state == State::kEmpty) return static_cast<int32_t>(i);
    if (slot.state == State::kReading || slot.wanted) continue;
    const auto [layer, expert] = std::div(slot.item, static_cast<int32_t>(experts_per_layer_));
    const double rank = policy_.Rank(layer, expert);
    if (rank < least) {
      least = rank;
      best = static_cast<int32_t>(i);
    }
  }
  return best;
}

void StreamedExpertStore::Read(int32_t item, int32_t slot_index) {
  Slot& slot = slots_[static_cast<size_t>(slot_index)];
  if (slot.item != kNone) slot_of_[static_cast<size_t>(slot.item)] = kNone;
  slot_of_[static_cast<size_t>(item)] = slot_index;
  slot = {.item = item, .state = State::kReading, .wanted = true, .missing = kAllParts};
  ++reading_;
  std::byte* to = memory_.data() + slot_index * slot_bytes_;
  int32_t tag = slot_index * kMatrices;
  for (const StoredMatrix* stored : MatricesOf(WeightsOf(item))) {
    const Pages pages(*stored);
    reader_.Queue({.file = stored->file,
                   .offset = pages.begin,
                   .bytes = pages.bytes,
                   .to = to,
                   .tag = tag++});
    to += pages.bytes;
  }
}

void StreamedExpertStore::TakeArrivals(bool wait) {
  while (std::optional<FileReader::Done> done = reader_.Take(wait)) {
    wait = false;
    const int32_t index = done->tag / kMatrices;
    Slot& slot = slots_[static_cast<size_t>(index)];
    if (done->error && !slot.error) slot.error = std::move(done->error);
    slot.missing &= static_cast<uint8_t>(~(1 << done->tag % kMatrices));
    if (!slot.error) {
      if (slot.missing == 0) slot.state = State::kFull;
      Arrive(index);
      continue;
    }
    if (slot.missing != 0) continue;
    if (slot.wanted && !error_) error_ = std::move(slot.error);
    if (slot.wanted && !slot.given) --reading_;
    slot_of_[static_cast<size_t>(slot.item)] = kNone;
    slot = {};
  }
}

/// Has an expert given once, as soon as it can be begun with.
void StreamedExpertStore::Arrive(int32_t slot_index) {
  Slot& slot = slots_[static_cast<size_t>(slot_index)];
  if (!slot.wanted || slot.given || slot.error || (slot.missing & kFirstParts) != 0) return;
  slot.given = true;
  --reading_;
  arrived_.push_back(slot_index);
}

void StreamedExpertStore::Give(int32_t slot_index) {
  const int32_t item = slots_[static_cast<size_t>(slot_index)].item;
  const FeedForwardWeights& weights = WeightsOf(item);
  ExpertView view = ViewOf(weights);
  const std::byte* from = memory_.data() + slot_index * slot_bytes_;
  const std::array<WeightMatrix*, kMatrices> matrices = {&view.gate, &view.up, &view.down};
  const auto stored = MatricesOf(weights);
  for (size_t i = 0; i < stored.size(); ++i) {
    const Pages pages(*stored[i]);
    matrices[i]->data = from + pages.skip;
    from += pages.bytes;
  }
  ready_.push_back({static_cast<int32_t>(static_cast<size_t>(item) % experts_per_layer_), view});
  given_.push_back(slot_index);
}

}  // namespace

int64_t ExpertSlotBytes(const ModelWeights& weights) {
  int64_t most = 0;
  for (const LayerWeights& layer : weights.layers) {
    for (const FeedForwardWeights& expert : layer.experts) {
      if (LiesInFiles(expert)) most = std::max(most, PagesOf(expert));
    }
  }
  return most;
}

int64_t StreamedExperts(const ModelWeights& weights) {
  int64_t count = 0;
  for (const LayerWeights& layer : weights.layers)
    count += std::ranges::count_if(layer.experts, LiesInFiles);
  return count;
}

FileReader::Options StreamReaderOptions(const ModelWeights& weights) {
  FileReader::Options options;
  // Three reads an expert; those of a Begin that failed may still be on their way.
  options.max_reads = std::max(static_cast<int>(6 * MostExperts(weights)), 16);
  return options;
}

int64_t StreamedStoreBytes(const ModelWeights& weights, int64_t slots) {
  const int64_t items = std::ssize(weights.layers) * static_cast<int64_t>(MostExperts(weights));
  const int64_t tables =
      items * (NextUsePolicy::kExpertBytes + static_cast<int64_t>(sizeof(int32_t))) +
      slots * static_cast<int64_t>(sizeof(StreamedExpertStore::Slot));
  const int64_t experts = slots * ExpertSlotBytes(weights);
  return experts + RoundUpToPage(tables + FileReader::ExpectedMemoryBytes(experts));
}

Result<std::unique_ptr<ExpertStore>> MakeStreamedExpertStore(const ModelWeights& weights,
                                                             FileReader& reader, int64_t slots) {
  MOXIE_CHECK(slots >= kLeastExpertSlots);
  MOXIE_TRY_ASSIGN(PageBuffer memory,
                   PageBuffer::Create(slots * ExpertSlotBytes(weights), "expert cache"));
  return std::unique_ptr<ExpertStore>(
      std::make_unique<StreamedExpertStore>(weights, reader, std::move(memory), slots));
}

}  // namespace moxie
