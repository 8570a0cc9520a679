#include "formats/model_files.h"

#include <cstdio>
#include <system_error>
#include <utility>

#include "formats/safetensors.h"

namespace moxie {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMaxCompanionBytes = uint64_t{128} << 20;

bool Exists(const fs::path& path) {
  std::error_code error;
  return fs::exists(path, error);
}

/// Weights of one name: NAME.safetensors.index.json before NAME.safetensors; empty without either.
Result<std::optional<TensorFiles>> OpenNamed(const fs::path& folder, const std::string& name) {
  const fs::path index = folder / (name + ".safetensors.index.json");
  const fs::path single = folder / (name + ".safetensors");
  if (Exists(index)) {
    MOXIE_TRY_ASSIGN(TensorFiles files, OpenSafetensorsIndex(index));
    return std::optional<TensorFiles>(std::move(files));
  }
  if (Exists(single)) {
    MOXIE_TRY_ASSIGN(TensorFiles files, OpenSafetensors({single}));
    return std::optional<TensorFiles>(std::move(files));
  }
  return std::optional<TensorFiles>();
}

/// consolidated.safetensors (or its index), or consolidated.00.safetensors, .01 and so on.
Result<std::optional<TensorFiles>> OpenConsolidated(const fs::path& folder) {
  MOXIE_TRY_ASSIGN(std::optional<TensorFiles> named, OpenNamed(folder, "consolidated"));
  if (named) return named;
  std::vector<fs::path> paths;
  for (int number = 0; number < 100; ++number) {
    char name[40];
    std::snprintf(name, sizeof name, "consolidated.%02d.safetensors", number);
    if (!Exists(folder / name)) break;
    paths.push_back(folder / name);
  }
  if (paths.empty()) return std::optional<TensorFiles>();
  MOXIE_TRY_ASSIGN(TensorFiles files, OpenSafetensors(paths));
  return std::optional<TensorFiles>(std::move(files));
}

Result<ModelFiles> OpenFolder(const fs::path& folder) {
  ModelFiles model;
  model.path = folder;
  const bool has_config = Exists(folder / "config.json");
  const bool has_params = Exists(folder / "params.json");
  if (has_config) {
    MOXIE_TRY_ASSIGN(std::optional<TensorFiles> tensors, OpenNamed(folder, "model"));
    if (tensors) {
      model.layout = FileLayout::kHuggingFace;
      model.tensors = std::move(*tensors);
      return model;
    }
  }
  // Mistral's folders hold both layouts' configurations, and sometimes only their own weights.
  if (has_params) {
    MOXIE_TRY_ASSIGN(std::optional<TensorFiles> tensors, OpenConsolidated(folder));
    if (tensors) {
      model.layout = FileLayout::kConsolidated;
      model.tensors = std::move(*tensors);
      return model;
    }
  }
  if (has_config) {
    return Error{ErrorCode::kNotFound, folder.string() +
                                           ": has neither model.safetensors nor "
                                           "model.safetensors.index.json beside config.json"};
  }
  if (has_params) {
    return Error{ErrorCode::kNotFound, folder.string() +
                                           ": has neither consolidated.safetensors nor "
                                           "consolidated.00.safetensors beside params.json"};
  }
  return Error{ErrorCode::kNotFound,
               folder.string() +
                   ": is no model folder, since it has neither config.json nor "
                   "params.json"};
}

}  // namespace

Result<std::optional<std::string>> ModelFiles::ReadCompanion(std::string_view name) const {
  if (layout == FileLayout::kGguf) return std::optional<std::string>();
  const fs::path file_path = path / name;
  if (!Exists(file_path)) return std::optional<std::string>();
  MOXIE_TRY_ASSIGN(const MappedFile file, MappedFile::Open(file_path));
  const std::span<const std::byte> bytes = file.bytes();
  if (bytes.size() > kMaxCompanionBytes) {
    return Error{ErrorCode::kInvalidInput, file_path.string() + ": is " +
                                               std::to_string(bytes.size()) +
                                               " bytes long, but at most " +
                                               std::to_string(kMaxCompanionBytes) + " are read"};
  }
  return std::optional<std::string>(std::in_place, reinterpret_cast<const char*>(bytes.data()),
                                    bytes.size());
}

Result<ModelFiles> OpenModelFiles(const fs::path& path) {
  std::error_code error;
  if (fs::is_directory(path, error)) return OpenFolder(path);
  ModelFiles model;
  model.path = path;
  MOXIE_TRY_ASSIGN(model.tensors, OpenGguf(path, &model.metadata));
  return model;
}

}  // namespace moxie
