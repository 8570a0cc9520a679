#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>

#include "engine/model_parts.h"
#include "forward/pack_weights.h"
#include "memory/resident_weights.h"
#include "memory/streamed_store.h"

namespace moxie {
namespace {

/// How much of the files lies in the page cache.
double CachedShare(const TensorFiles& files) {
  int64_t bytes = 0, cached = 0;
  for (const MappedFile& file : files.files()) {
    bytes += file.identity().size;
    cached += file.CachedBytes();
  }
  return static_cast<double>(cached) / static_cast<double>(std::max<int64_t>(bytes, 1));
}

FileReader::Options ReaderOptions(const Model::Parts& parts, bool streamed, double cached_share) {
  if (streamed) return StreamReaderOptions(parts.weights);
  FileReader::Options options;
  // Copying from the page cache is faster than any disk; what is not there would come to it.
  if (cached_share > 0.99) {
    options.direct = options.drop_behind = options.io_uring = false;
    options.threads = parts.options.threads;
  }
  return options;
}

Result<void> ReadResidentWeights(Model::Parts& parts, ResidentPart part, FileReader& reader,
                                 bool direct) {
  const auto start = std::chrono::steady_clock::now();
  const ResidentRanges ranges(parts.weights, parts.files.tensors, part);
  MOXIE_TRY_ASSIGN(parts.weight_memory,
                   PlaceResident(parts.weights, parts.files.tensors, ranges, part));
  WeightPacker packer(parts.weights, part, parts.weight_memory, *parts.kernels, *parts.threads);
  // Threads that copy from the page cache take memory themselves.
  const int helpers = direct ? parts.options.threads - 1 : 0;
  return ReadResident(ranges, parts.weight_memory, reader, helpers, [&](const LoadedBytes& loaded) {
    // While the rest is being read, and what came last is in the cache.
    if (parts.options.pack_weights) packer.Pack(loaded.whole);
    if (!parts.options.on_load) return true;
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return parts.options.on_load(
        {.done_bytes = loaded.done, .total_bytes = ranges.bytes(), .seconds = seconds});
  });
}

/// Takes out of the page cache what reading the heads of files left there, since it counts as this
/// process's memory.
void DropHeads(const TensorFiles& files) {
  for (const MappedFile& file : files.files()) {
    const int fd = open(file.path().c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) continue;
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    close(fd);
  }
}

}  // namespace

Result<void> PlaceWeights(Model::Parts& parts, int64_t expert_slots) {
  const bool streamed = expert_slots > 0;
  const double cached_share = CachedShare(parts.files.tensors);
  const FileReader::Options options = ReaderOptions(parts, streamed, cached_share);
  MOXIE_TRY_ASSIGN(auto reader, FileReader::Create(parts.files.tensors.files(), options));
  parts.read_method = reader->Method();
  if (cached_share < 0.5) DropHeads(parts.files.tensors);  // Else somebody keeps the files there.
  if (!streamed) {
    MOXIE_TRY(ReadResidentWeights(parts, ResidentPart::kAll, *reader, options.direct));
    parts.experts = MakeResidentExpertStore(parts.weights);
    return {};
  }
  MOXIE_TRY(ReadResidentWeights(parts, ResidentPart::kAllButExperts, *reader, options.direct));
  parts.expert_files = std::move(reader);
  MOXIE_TRY_ASSIGN(parts.experts,
                   MakeStreamedExpertStore(parts.weights, *parts.expert_files, expert_slots));
  return {};
}

}  // namespace moxie
