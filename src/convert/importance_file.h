#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "moxie/result.h"

namespace moxie {

/// What a text sent through a model's matrices: for each tensor, the sums of the squares of its
/// inputs and how many there were; of stacked experts one of each an expert.
struct Importance {
  struct Entry {
    std::vector<float> sums;    ///< [matrices, columns]
    std::vector<float> counts;  ///< [matrices]
  };

  std::map<std::string, Entry, std::less<>> entries;  ///< by the tensor's name in a GGUF
  std::vector<std::string> datasets;                  ///< names of the texts
  int64_t chunks = 0;
  int64_t chunk_tokens = 0;

  /// The mean squares for the tensor's errors, [matrices, columns]; an expert that no token reached
  /// gets the mean of the others. An expert's own tensor (blk.0.ffn_up.3.weight) finds its part of
  /// the stacked one's. Nothing where the tensor is not there.
  ///
  /// Errors: kInvalidInput, naming the tensor, where the sizes differ.
  Result<std::optional<std::vector<float>>> Weights(std::string_view tensor, int64_t matrices,
                                                    int64_t columns) const;
};

/// Reads llama.cpp's importance matrices: the GGUF form (tensors NAME.in_sum2 and NAME.counts), or
/// the older .dat.
///
/// Errors: kNotFound, kIo; kInvalidInput with one sentence that starts with the file's name.
Result<Importance> ReadImportance(const std::filesystem::path& path);

/// The older form: int32 entries, and for each the name (int32 length before it), int32 calls,
/// int32 values, and the means times the calls; then int32 chunks and the name of the text. Claimed
/// counts allocate nothing before they are checked against the size.
Result<Importance> ParseImportanceDat(std::span<const std::byte> bytes, std::string_view name);

/// Writes the GGUF form.
Result<void> WriteImportance(const Importance& importance, const std::filesystem::path& path);

}  // namespace moxie
