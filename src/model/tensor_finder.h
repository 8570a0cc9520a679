#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "formats/model_files.h"
#include "model/names.h"
#include "model/weights.h"
#include "moxie/result.h"

namespace moxie {

/// One role that a tensor plays: its spellings, below a layer's prefix, with an expert's number
/// and a suffix.
struct Role {
  const Spellings& spellings;
  std::string_view prefix = {};
  std::string_view suffix = ".weight";
  int64_t number = -1;  ///< replaces "#"
};

/// Finds tensors by role, checks them, and remembers which were asked for, so that what is left
/// over can be named. Not thread-safe.
class TensorFinder {
 public:
  explicit TensorFinder(const ModelFiles& files);

  /// The role's tensor, now counted as used; null where the files have none.
  const TensorInfo* Find(const Role& role);
  bool Has(const Role& role) const { return Locate(role) != nullptr; }

  /// The role's tensor, of that shape and of a type that weights may have.
  Result<const TensorInfo*> Need(const Role& role, const std::vector<int64_t>& shape);

  /// The role's matrix where it lies.
  Result<StoredMatrix> Matrix(const Role& role, int64_t rows, int64_t cols);

  /// `elements` values widened to float32, from a vector or a matrix of one row.
  Result<std::vector<float>> Vector(const Role& role, int64_t elements);

  /// A tensor's elements as float32; it must be of a plain float type.
  Result<std::vector<float>> Values(const TensorInfo& tensor) const;

  /// `rows` rows of `cols` elements of a tensor whose last dimension is `cols`, from `first_row`.
  StoredMatrix Rows(const TensorInfo& tensor, int64_t first_row, int64_t rows, int64_t cols) const;

  const std::byte* Data(const TensorInfo& tensor) const {
    return files_.tensors.Bytes(tensor).data();
  }

  /// An error that names a tensor nobody asked for, if there is one that matters.
  Result<void> RefuseUnused(const ModelConfig& config) const;

  /// `FILE: tensor NAME WHAT`.
  Error Complain(const TensorInfo& tensor, std::string_view what) const;
  /// `FILE: tensor NAME is missing, but EXPECTED was expected`.
  Error Missing(const Role& role, std::string_view expected) const;

 private:
  const TensorInfo* Locate(const Role& role) const;

  const ModelFiles& files_;
  std::vector<bool> used_;
};

/// "[4, 48]".
std::string ShowShape(const std::vector<int64_t>& shape);

}  // namespace moxie
