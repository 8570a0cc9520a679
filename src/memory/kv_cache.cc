#include "memory/kv_cache.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <new>
#include <string>
#include <utility>

#include "quant/quantize.h"

namespace moxie {
namespace {

constexpr int64_t kMaxPageTokens = 1024;
constexpr int64_t kUnlimited = std::numeric_limits<int64_t>::max();

int64_t CeilDivide(int64_t a, int64_t b) { return (a + b - 1) / b; }

/// a * b, or nothing where it overflows.
bool Multiply(int64_t a, int64_t b, int64_t& product) {
  return !__builtin_mul_overflow(a, b, &product);
}

/// Encodes `dim` elements; the last block of a block type is filled up with zeros to `width`.
void EncodeRow(DType type, const float* x, int64_t dim, int64_t width, std::byte* out) {
  constexpr int64_t kMaxBlock = 32;
  const DTypeTraits& traits = TraitsOf(type);
  const int64_t whole = dim / traits.block_elements * traits.block_elements;
  Quantize(type, x, whole, nullptr, out);
  if (whole == width) return;
  MOXIE_CHECK(traits.block_elements <= kMaxBlock);
  float tail[kMaxBlock] = {};
  std::copy(x + whole, x + dim, tail);
  Quantize(type, tail, traits.block_elements, nullptr,
           out + whole / traits.block_elements * traits.block_bytes);
}

}  // namespace

struct KvCache::Plan {
  Shape shape;
  std::vector<Group> groups;
  std::vector<LayerPlace> layers;
  int64_t bytes = 0;
};

int64_t KvCache::PaddedWidth(DType type, int64_t elements) {
  const int64_t block = TraitsOf(type).block_elements;
  return CeilDivide(elements, block) * block;
}

Result<KvCache::Plan> KvCache::MakePlan(const ModelConfig& config, const Options& options) {
  if (options.type != DType::kF32 && options.type != DType::kF16 && options.type != DType::kQ8_0)
    return Error{ErrorCode::kInvalidInput, "key-value cache: type is " +
                                               std::string(NameOf(options.type)) +
                                               ", but must be f32, f16 or q8_0"};
  if (options.page_tokens < 1 || options.page_tokens > kMaxPageTokens ||
      options.max_chunk_tokens < 1 || options.max_sequences < 1 || options.capacity_tokens < 1 ||
      options.capacity_tokens > kUnlimited / 2 || options.max_chunk_tokens > kUnlimited / 4)
    return Error{ErrorCode::kInvalidInput,
                 "key-value cache: capacity, chunk, page and sequence counts must be positive"};

  Plan plan;
  Shape& shape = plan.shape;
  const AttentionConfig& attention = config.attention;
  const bool latent = attention.latent.kv_rank > 0;
  shape.kv_heads = latent ? 1 : attention.kv_heads;
  shape.key_dim =
      latent ? attention.latent.kv_rank + attention.latent.rope_dim : attention.head_dim;
  shape.value_dim = latent ? attention.latent.kv_rank : attention.head_dim;
  shape.key_width = PaddedWidth(options.type, shape.key_dim);
  shape.value_width = PaddedWidth(options.type, shape.value_dim);
  shape.key_row_bytes = BytesOf(options.type, shape.key_width).value_or(0);
  shape.value_row_bytes = latent ? 0 : BytesOf(options.type, shape.value_width).value_or(0);
  shape.layer_bytes =
      shape.kv_heads * options.page_tokens * (shape.key_row_bytes + shape.value_row_bytes);

  for (const LayerConfig& layer : config.layers) {
    auto group = std::ranges::find(plan.groups, layer.window, &Group::window);
    if (group == plan.groups.end()) {
      plan.groups.emplace_back().window = layer.window;
      group = plan.groups.end() - 1;
    }
    plan.layers.push_back(
        {static_cast<int32_t>(group - plan.groups.begin()), static_cast<int32_t>(group->layers++)});
  }

  const int64_t full_pages = CeilDivide(options.capacity_tokens, options.page_tokens);
  const bool has_full = std::ranges::find(plan.groups, 0, &Group::window) != plan.groups.end();
  const Error too_large{ErrorCode::kOverBudget,
                        "key-value cache: the memory asked for exceeds any machine's"};
  for (Group& group : plan.groups) {
    group.slots = full_pages;
    group.pages = full_pages;
    if (group.window > 0) {
      // A chunk's first token still sees window - 1 positions before it.
      const int64_t span = std::min(group.window, kUnlimited / 4) - 1 + options.max_chunk_tokens;
      group.slots = CeilDivide(span - 1, options.page_tokens) + 1;
      if (!Multiply(group.slots, options.max_sequences, group.pages)) return too_large;
      // Beside full layers, which hold every position, no more pages can ever be in use.
      if (has_full) group.pages = std::min(group.pages, full_pages);
      if (has_full) group.slots = std::min(group.slots, full_pages);
    }
    int64_t pool = 0, table = 0;
    if (group.pages > std::numeric_limits<int32_t>::max() ||
        !Multiply(group.layers, shape.layer_bytes, group.page_bytes) ||
        !Multiply(group.page_bytes, group.pages, pool) ||
        !Multiply(group.slots, options.max_sequences * static_cast<int64_t>(sizeof(int32_t)),
                  table))
      return too_large;
    const int64_t counters = group.pages * 2 * static_cast<int64_t>(sizeof(int32_t)) +
                             options.max_sequences * 2 * static_cast<int64_t>(sizeof(int64_t));
    for (int64_t part : {pool, table, counters})
      if (__builtin_add_overflow(plan.bytes, part, &plan.bytes)) return too_large;
  }
  plan.bytes += options.max_sequences * static_cast<int64_t>(sizeof(int64_t));
  return plan;
}

int64_t KvCache::BytesFor(const ModelConfig& config, const Options& options) {
  auto plan = MakePlan(config, options);
  return plan ? plan->bytes : kUnlimited;
}

Result<std::unique_ptr<KvCache>> KvCache::Create(const ModelConfig& config,
                                                 const Options& options) {
  MOXIE_TRY_ASSIGN(Plan plan, MakePlan(config, options));
  const size_t sequences = static_cast<size_t>(options.max_sequences);
  try {
    for (Group& group : plan.groups) {
      MOXIE_TRY_ASSIGN(group.bytes,
                       PageBuffer::Create(group.pages * group.page_bytes, "key-value cache"));
      group.table.resize(static_cast<size_t>(group.slots) * sequences);
      group.references.resize(static_cast<size_t>(group.pages));
      group.free.resize(static_cast<size_t>(group.pages));
      for (size_t i = 0; i < group.free.size(); ++i)
        group.free[i] = static_cast<int32_t>(group.free.size() - 1 - i);
      group.first.resize(sequences);
      group.end.resize(sequences);
    }
    return std::unique_ptr<KvCache>(new KvCache(options, std::move(plan)));
  } catch (const std::bad_alloc&) {
    return Error{ErrorCode::kOverBudget,
                 "key-value cache: " + std::to_string(BytesFor(config, options)) +
                     " bytes cannot be had; lower the context"};
  }
}

KvCache::KvCache(const Options& options, Plan plan)
    : options_(options),
      shape_(plan.shape),
      groups_(std::move(plan.groups)),
      layers_(std::move(plan.layers)),
      lengths_(static_cast<size_t>(options.max_sequences), -1) {}

KvCache::~KvCache() = default;

void KvCache::CheckAlive(SequenceId sequence) const {
  MOXIE_CHECK(sequence >= 0 && sequence < options_.max_sequences &&
              lengths_[static_cast<size_t>(sequence)] >= 0);
}

int32_t& KvCache::Entry(Group& group, SequenceId sequence, int64_t page) const {
  return group.table[static_cast<size_t>(sequence * group.slots + page % group.slots)];
}

int32_t KvCache::Entry(const Group& group, SequenceId sequence, int64_t page) const {
  return group.table[static_cast<size_t>(sequence * group.slots + page % group.slots)];
}

int64_t KvCache::FirstNeededPage(const Group& group, int64_t length) const {
  if (group.window == 0) return 0;
  return std::max<int64_t>(0, length - (group.window - 1)) / options_.page_tokens;
}

void KvCache::Unreference(Group& group, int32_t page) {
  if (--group.references[static_cast<size_t>(page)] == 0) group.free.push_back(page);
}

void KvCache::ReleasePages(Group& group, SequenceId sequence, int64_t begin, int64_t end) {
  for (int64_t page = begin; page < end; ++page) Unreference(group, Entry(group, sequence, page));
}

Result<SequenceId> KvCache::CreateSequence() {
  const auto unused = std::ranges::find(lengths_, -1);
  if (unused == lengths_.end())
    return Error{
        ErrorCode::kOverBudget,
        "key-value cache: all " + std::to_string(options_.max_sequences) + " sequences are in use"};
  *unused = 0;
  const SequenceId sequence = static_cast<SequenceId>(unused - lengths_.begin());
  for (Group& group : groups_) {
    group.first[static_cast<size_t>(sequence)] = 0;
    group.end[static_cast<size_t>(sequence)] = 0;
  }
  return sequence;
}

void KvCache::FreeSequence(SequenceId sequence) {
  CheckAlive(sequence);
  const size_t s = static_cast<size_t>(sequence);
  for (Group& group : groups_) ReleasePages(group, sequence, group.first[s], group.end[s]);
  lengths_[s] = -1;
}

int64_t KvCache::Length(SequenceId sequence) const {
  CheckAlive(sequence);
  return lengths_[static_cast<size_t>(sequence)];
}

Result<void> KvCache::CheckPrefix(SequenceId sequence, int64_t tokens) const {
  CheckAlive(sequence);
  const size_t s = static_cast<size_t>(sequence);
  if (tokens < 0 || tokens > lengths_[s])
    return Error{ErrorCode::kInvalidInput,
                 "key-value cache: a prefix of " + std::to_string(tokens) +
                     " tokens was asked for, but the sequence has " + std::to_string(lengths_[s])};
  for (const Group& group : groups_) {
    if (FirstNeededPage(group, tokens) < group.first[s])
      return Error{ErrorCode::kInvalidInput, "key-value cache: the window before position " +
                                                 std::to_string(tokens) + " has rolled away"};
  }
  return {};
}

Result<SequenceId> KvCache::Fork(SequenceId sequence, int64_t tokens) {
  MOXIE_TRY(CheckPrefix(sequence, tokens));
  MOXIE_TRY_ASSIGN(const SequenceId fork, CreateSequence());
  for (Group& group : groups_) {
    const int64_t begin = FirstNeededPage(group, tokens);
    const int64_t end = CeilDivide(tokens, options_.page_tokens);
    group.first[static_cast<size_t>(fork)] = std::min(begin, end);
    group.end[static_cast<size_t>(fork)] = end;
    for (int64_t page = begin; page < end; ++page) {
      const int32_t physical = Entry(std::as_const(group), sequence, page);
      Entry(group, fork, page) = physical;
      ++group.references[static_cast<size_t>(physical)];
    }
  }
  lengths_[static_cast<size_t>(fork)] = tokens;
  return fork;
}

Result<void> KvCache::Truncate(SequenceId sequence, int64_t tokens) {
  MOXIE_TRY(CheckPrefix(sequence, tokens));
  lengths_[static_cast<size_t>(sequence)] = tokens;
  Rollback(sequence);
  return {};
}

void KvCache::Rollback(SequenceId sequence) {
  CheckAlive(sequence);
  const size_t s = static_cast<size_t>(sequence);
  for (Group& group : groups_) {
    const int64_t end = std::max(group.first[s], CeilDivide(lengths_[s], options_.page_tokens));
    if (end >= group.end[s]) continue;
    ReleasePages(group, sequence, end, group.end[s]);
    group.end[s] = end;
  }
}

int64_t KvCache::FreeTokens() const {
  for (const Group& group : groups_) {
    if (group.window == 0) return static_cast<int64_t>(group.free.size()) * options_.page_tokens;
  }
  return kUnlimited;
}

int64_t KvCache::PagesToGrow(SequenceId sequence, int64_t length) const {
  CheckAlive(sequence);
  const auto s = static_cast<size_t>(sequence);
  for (const Group& group : groups_) {
    if (group.window > 0) continue;
    const int64_t held = group.end[s];
    const int64_t more = std::max<int64_t>(0, CeilDivide(length, options_.page_tokens) - held);
    const int64_t last = lengths_[s] / options_.page_tokens;
    const bool copies = length > lengths_[s] && last < held &&
                        group.references[static_cast<size_t>(Entry(group, sequence, last))] > 1;
    return more + (copies ? 1 : 0);
  }
  return 0;
}

bool KvCache::ReserveIn(Group& group, SequenceId sequence, int64_t length, int64_t tokens) {
  const size_t s = static_cast<size_t>(sequence);
  const int64_t needed = std::min(FirstNeededPage(group, length), group.end[s]);
  if (needed > group.first[s]) {
    ReleasePages(group, sequence, group.first[s], needed);
    group.first[s] = needed;
  }
  const auto take = [&](int64_t page) {
    const int32_t physical = group.free.back();
    group.free.pop_back();
    group.references[static_cast<size_t>(physical)] = 1;
    Entry(group, sequence, page) = physical;
    return physical;
  };
  const int64_t last = length / options_.page_tokens;  // The page that the first new token enters.
  if (last < group.end[s]) {
    const int32_t shared = Entry(std::as_const(group), sequence, last);
    if (group.references[static_cast<size_t>(shared)] > 1) {
      if (group.free.empty()) return false;
      const int32_t own = take(last);
      std::memcpy(group.bytes.data() + own * group.page_bytes,
                  group.bytes.data() + shared * group.page_bytes,
                  static_cast<size_t>(group.page_bytes));
      Unreference(group, shared);
    }
  }
  const int64_t end = CeilDivide(length + tokens, options_.page_tokens);
  if (end - group.end[s] > static_cast<int64_t>(group.free.size())) return false;
  for (; group.end[s] < end; ++group.end[s]) take(group.end[s]);
  return true;
}

Result<void> KvCache::Reserve(SequenceId sequence, int64_t tokens) {
  CheckAlive(sequence);
  if (tokens < 0 || tokens > options_.max_chunk_tokens)
    return Error{ErrorCode::kInvalidInput, "key-value cache: a chunk has " +
                                               std::to_string(tokens) +
                                               " tokens, but the cache was made for up to " +
                                               std::to_string(options_.max_chunk_tokens)};
  const int64_t length = lengths_[static_cast<size_t>(sequence)];
  for (Group& group : groups_) {
    if (ReserveIn(group, sequence, length, tokens)) continue;
    Rollback(sequence);
    return Error{ErrorCode::kOverBudget, "key-value cache: no free pages for " +
                                             std::to_string(tokens) + " tokens after position " +
                                             std::to_string(length)};
  }
  return {};
}

void KvCache::Commit(SequenceId sequence, int64_t tokens) {
  CheckAlive(sequence);
  int64_t& length = lengths_[static_cast<size_t>(sequence)];
  for (const Group& group : groups_)
    MOXIE_CHECK((length + tokens) <=
                group.end[static_cast<size_t>(sequence)] * options_.page_tokens);
  length += tokens;
}

KvCache::PageRows KvCache::Rows(SequenceId sequence, int64_t layer, int64_t page,
                                int64_t kv_head) const {
  const LayerPlace place = layers_[static_cast<size_t>(layer)];
  const Group& group = groups_[static_cast<size_t>(place.group)];
  const std::byte* base = group.bytes.data() + Entry(group, sequence, page) * group.page_bytes +
                          place.index * shape_.layer_bytes;
  PageRows rows;
  rows.key_stride = shape_.key_row_bytes;
  rows.keys = base + kv_head * options_.page_tokens * shape_.key_row_bytes;
  if (shape_.value_row_bytes == 0) {
    rows.values = rows.keys;
    rows.value_stride = rows.key_stride;
  } else {
    rows.value_stride = shape_.value_row_bytes;
    rows.values = base + shape_.kv_heads * options_.page_tokens * shape_.key_row_bytes +
                  kv_head * options_.page_tokens * shape_.value_row_bytes;
  }
  return rows;
}

void KvCache::Store(SequenceId sequence, int64_t layer, int64_t position, const float* keys,
                    const float* values) {
  const int64_t row = position % options_.page_tokens;
  for (int64_t head = 0; head < shape_.kv_heads; ++head) {
    const PageRows rows = Rows(sequence, layer, position / options_.page_tokens, head);
    // The pages are this object's own; Rows gives readers a const view of them.
    EncodeRow(options_.type, keys + head * shape_.key_dim, shape_.key_dim, shape_.key_width,
              const_cast<std::byte*>(rows.keys) + row * rows.key_stride);
    if (values == nullptr) continue;
    EncodeRow(options_.type, values + head * shape_.value_dim, shape_.value_dim, shape_.value_width,
              const_cast<std::byte*>(rows.values) + row * rows.value_stride);
  }
}

}  // namespace moxie
