#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string_view>
#include <vector>

#include "core/atomic_file.h"
#include "moxie/result.h"

namespace moxie {

/// An array of an .npy file (NumPy's "NEP 1" format), outermost dimension first.
/// T is float ('<f4') or int32_t ('<i4').
template <class T>
struct NpyArray {
  std::vector<int64_t> shape;
  std::vector<T> values;  ///< row-major
};

/// Reads an .npy of exactly that element type, in C order. `name` begins the messages of errors.
///
/// Errors: kInvalidInput; kUnsupported for another element type or Fortran order.
template <class T>
Result<NpyArray<T>> ParseNpy(std::span<const std::byte> bytes, std::string_view name);
template <class T>
Result<NpyArray<T>> ReadNpy(const std::filesystem::path& path);

/// Writes an .npy piece by piece; the file appears under its name when Finish succeeds.
template <class T>
class NpyWriter {
 public:
  static Result<NpyWriter> Create(const std::filesystem::path& path,
                                  std::span<const int64_t> shape);

  /// Appends elements in row-major order.
  Result<void> Write(std::span<const T> values);

  /// The elements written must be those of the shape.
  Result<void> Finish();

 private:
  NpyWriter(AtomicFile file, uint64_t bytes) : file_(std::move(file)), bytes_(bytes) {}
  AtomicFile file_;
  uint64_t bytes_;  ///< of the whole file
};

/// Writes a whole array.
template <class T>
Result<void> WriteNpy(const std::filesystem::path& path, std::span<const int64_t> shape,
                      std::span<const T> values);

extern template class NpyWriter<float>;
extern template class NpyWriter<int32_t>;

}  // namespace moxie
