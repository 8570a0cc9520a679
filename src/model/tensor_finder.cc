#include "model/tensor_finder.h"

#include <algorithm>
#include <utility>

#include "quant/dequantize.h"

namespace moxie {
namespace {

std::string NameFor(const Role& role, std::string_view spelling) {
  std::string name(role.prefix);
  name += WithNumber(spelling, role.number);
  name += role.suffix;
  return name;
}

bool IsFloat(DType type) {
  return type == DType::kF32 || type == DType::kF16 || type == DType::kBF16;
}

bool IsWeightType(DType type) { return IsFloat(type) || TraitsOf(type).block_elements > 1; }

}  // namespace

std::string ShowShape(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) {
    if (i > 0) text += ", ";
    text += std::to_string(shape[i]);
  }
  return text + "]";
}

TensorFinder::TensorFinder(const ModelFiles& files)
    : files_(files), used_(files.tensors.tensors().size()) {}

const TensorInfo* TensorFinder::Locate(const Role& role) const {
  for (const std::string_view spelling : role.spellings) {
    if (spelling.empty()) continue;
    const TensorInfo* tensor = files_.tensors.Find(NameFor(role, spelling));
    if (tensor != nullptr) return tensor;
  }
  return nullptr;
}

const TensorInfo* TensorFinder::Find(const Role& role) {
  const TensorInfo* tensor = Locate(role);
  if (tensor != nullptr) {
    used_[static_cast<size_t>(tensor - files_.tensors.tensors().data())] = true;
  }
  return tensor;
}

Error TensorFinder::Complain(const TensorInfo& tensor, std::string_view what) const {
  const auto& path = files_.tensors.files()[static_cast<size_t>(tensor.file)].path();
  return Error{ErrorCode::kInvalidInput,
               path.filename().string() + ": tensor " + tensor.name + " " + std::string(what)};
}

Error TensorFinder::Missing(const Role& role, std::string_view expected) const {
  return Error{ErrorCode::kInvalidInput,
               DisplayName(files_) + ": tensor " + NameFor(role, role.spellings[0]) +
                   " is missing, but " + std::string(expected) + " was expected"};
}

Result<const TensorInfo*> TensorFinder::Need(const Role& role, const std::vector<int64_t>& shape) {
  const TensorInfo* tensor = Find(role);
  if (tensor == nullptr) return Missing(role, ShowShape(shape));
  if (tensor->shape != shape) {
    return Complain(
        *tensor, "has shape " + ShowShape(tensor->shape) + ", but must have " + ShowShape(shape));
  }
  if (!IsWeightType(tensor->type)) {
    return Complain(*tensor, "has type " + std::string(NameOf(tensor->type)) +
                                 ", but must be f32, f16, bf16 or quantised");
  }
  return tensor;
}

StoredMatrix TensorFinder::Rows(const TensorInfo& tensor, int64_t first_row, int64_t rows,
                                int64_t cols) const {
  const std::optional<int64_t> row_bytes = BytesOf(tensor.type, cols);
  MOXIE_CHECK(row_bytes.has_value());  // The readers check that rows are whole blocks.
  StoredMatrix stored;
  const int64_t offset = first_row * *row_bytes;
  stored.matrix = {tensor.type, rows, cols, *row_bytes, Data(tensor) + offset};
  stored.file = tensor.file;
  stored.offset = tensor.offset + static_cast<uint64_t>(offset);
  return stored;
}

Result<StoredMatrix> TensorFinder::Matrix(const Role& role, int64_t rows, int64_t cols) {
  MOXIE_TRY_ASSIGN(const TensorInfo* tensor, Need(role, {rows, cols}));
  return Rows(*tensor, 0, rows, cols);
}

Result<std::vector<float>> TensorFinder::Values(const TensorInfo& tensor) const {
  if (!IsFloat(tensor.type)) {
    return Complain(
        tensor, "has type " + std::string(NameOf(tensor.type)) + ", but must be f32, f16 or bf16");
  }
  std::vector<float> values(static_cast<size_t>(tensor.elements()));
  MOXIE_TRY_ASSIGN(const std::vector<std::byte> bytes, files_.tensors.Read(tensor));
  Dequantize(tensor.type, bytes.data(), tensor.elements(), values.data());
  return values;
}

Result<std::vector<float>> TensorFinder::Vector(const Role& role, int64_t elements) {
  const TensorInfo* tensor = Find(role);
  if (tensor == nullptr) return Missing(role, ShowShape({elements}));
  std::vector<int64_t> shape = tensor->shape;
  if (shape.size() == 2 && shape[0] == 1) shape.erase(shape.begin());
  if (shape != std::vector<int64_t>{elements}) {
    return Complain(*tensor, "has shape " + ShowShape(tensor->shape) + ", but must have " +
                                 ShowShape({elements}));
  }
  return Values(*tensor);
}

Result<void> TensorFinder::RefuseUnused(const ModelConfig& config) const {
  const auto layers = static_cast<int64_t>(config.layers.size());
  for (size_t i = 0; i < used_.size(); ++i) {
    const TensorInfo& tensor = files_.tensors.tensors()[i];
    if (used_[i] || IsIgnorable(files_.layout, tensor.name)) continue;
    const int64_t layer = LayerOf(files_.layout, tensor.name);
    if (layer >= layers && layer < layers + config.prediction_layers) continue;
    return Complain(tensor, "is not used by a " + config.family +
                                " model of this configuration, but every tensor must be");
  }
  return {};
}

}  // namespace moxie
