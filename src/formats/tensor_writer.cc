#include "formats/tensor_writer.h"

#include <algorithm>
#include <array>
#include <unordered_set>

#include "core/printable.h"
#include "formats/spec_bytes.h"
#include "formats/tensor_files.h"

namespace moxie {

Result<std::vector<uint64_t>> SpecBytes(std::string_view file,
                                        std::span<const TensorSpec> tensors) {
  std::vector<uint64_t> bytes;
  std::unordered_set<std::string_view> names;
  for (const TensorSpec& tensor : tensors) {
    if (!names.insert(tensor.name).second) {
      return Error{ErrorCode::kInvalidInput,
                   std::string(file) + ": would have two tensors named " + Printable(tensor.name)};
    }
    MOXIE_TRY_ASSIGN(const uint64_t size,
                     TensorBytes(file, tensor.name, tensor.type, tensor.shape));
    bytes.push_back(size);
  }
  return bytes;
}

Result<void> TensorWriter::Write(std::span<const std::byte> bytes) {
  MOXIE_CHECK(bytes.empty() || current_ < bytes_.size());
  MOXIE_CHECK(bytes.empty() || bytes.size() <= bytes_[current_] - written_);
  MOXIE_TRY(file_.Write(bytes));
  written_ += bytes.size();
  if (bytes.empty() || written_ < bytes_[current_]) return {};
  ++current_;
  written_ = 0;
  static constexpr std::array<std::byte, 4096> kZeros{};
  for (uint64_t pad = (alignment_ - file_.size() % alignment_) % alignment_; pad > 0;) {
    const uint64_t piece = std::min<uint64_t>(pad, kZeros.size());
    MOXIE_TRY(file_.Write(std::span(kZeros).first(piece)));
    pad -= piece;
  }
  return {};
}

Result<void> TensorWriter::Finish() {
  MOXIE_CHECK(current_ == bytes_.size());
  return file_.Commit();
}

}  // namespace moxie
