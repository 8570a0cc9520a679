#pragma once

#include <cstdint>
#include <vector>

#include "core/function_ref.h"
#include "core/page_buffer.h"
#include "formats/tensor_files.h"
#include "memory/file_reader.h"
#include "model/config.h"
#include "model/weights.h"
#include "moxie/result.h"

namespace moxie {

/// Which of a model's weights are to lie in memory: all, or all but the experts that a streamed
/// store reads as they are needed (those that lie in files as they are).
enum class ResidentPart : uint8_t { kAll, kAllButExperts };

/// The whole pages of files that the chosen weights lie in, each once. What loading had to
/// rearrange lies in memory already and is not among them.
class ResidentRanges {
 public:
  struct Range {
    int file = 0;
    uint64_t begin = 0, end = 0;  ///< whole pages
    int64_t place = 0;            ///< from the start of the memory that receives all ranges
  };

  ResidentRanges(ModelWeights& weights, const TensorFiles& files, ResidentPart part);

  const std::vector<Range>& ranges() const { return ranges_; }
  int64_t bytes() const { return bytes_; }  ///< memory that they need

  /// Where a place of a file lies in that memory.
  int64_t PlaceOf(int file, uint64_t offset) const;

 private:
  std::vector<Range> ranges_;
  int64_t bytes_ = 0;
};

/// Memory that opened weights take, in bytes.
struct WeightPlaces {
  int64_t shared = 0;   ///< pages of files that must stay: all but the experts of a streamed store
  int64_t experts = 0;  ///< pages more where all stay
  int64_t heap = 0;     ///< what loading rearranged, and vectors
};
WeightPlaces PlacesOf(const ModelConfig& config, ModelWeights& weights, const TensorFiles& files);

/// The same of an outline, as if each matrix began on a page of its own.
WeightPlaces PlacesOfOutline(const ModelConfig& config, ModelWeights& outline);

/// Calls `visit` for every matrix of the chosen weights that is present.
void ForEachMatrix(ModelWeights& weights, ResidentPart part,
                   FunctionRef<void(WeightMatrix&)> visit);

/// Memory for the chosen weights, with `weights` pointed there.
/// Errors: kOverBudget where it cannot be had.
Result<PageBuffer> PlaceResident(ModelWeights& weights, const TensorFiles& files,
                                 const ResidentRanges& ranges, ResidentPart part);

/// How far loading is.
struct LoadedBytes {
  int64_t done = 0;   ///< of all
  int64_t whole = 0;  ///< that the memory begins with and that are all there
};

/// Reads the ranges into their memory. `progress` is called as they come; false stops. Up to
/// `helpers` threads take memory from the system ahead of the reads: where that is slow, as in a
/// virtual machine whose host must give it first, it goes on beside reading and `progress`.
///
/// Errors: what the reader reports, kCancelled.
Result<void> ReadResident(const ResidentRanges& ranges, const PageBuffer& memory,
                          FileReader& reader, int helpers,
                          FunctionRef<bool(const LoadedBytes&)> progress);

}  // namespace moxie
