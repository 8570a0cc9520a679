#pragma once

#include <fstream>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "formats/model_files.h"
#include "model/config.h"
#include "support/temp_folder.h"

namespace moxie::testing {

/// Settings of a config.json by name, as JSON texts; a test changes one and sees what happens.
using Json = std::map<std::string, std::string>;

inline std::string Text(const Json& members) {
  std::string text = "{";
  for (const auto& [name, value] : members) {
    if (value.empty()) continue;  // Left out.
    if (text.size() > 1) text += ", ";
    text.append("\"").append(name).append("\": ").append(value);
  }
  return text + "}";
}

/// Reads a configuration text as that of a folder that has no tensors.
inline Result<ModelConfig> ReadFolder(const std::string& text,
                                      FileLayout layout = FileLayout::kHuggingFace) {
  const TempFolder folder;
  const bool consolidated = layout == FileLayout::kConsolidated;
  std::ofstream(folder / (consolidated ? "params.json" : "config.json")) << text;
  ModelFiles files;
  files.layout = layout;
  files.path = folder.path();
  return ReadModelConfig(files);
}

inline Result<ModelConfig> ReadFolder(const Json& members) { return ReadFolder(Text(members)); }

/// Reads the configuration of a GGUF with these keys and (empty) tensors.
inline Result<ModelConfig> ReadGguf(
    const std::map<std::string, GgufValue>& values,
    const std::vector<std::pair<std::string, std::vector<int64_t>>>& tensors = {}) {
  ModelFiles files;
  files.path = "model.gguf";
  for (const auto& [name, value] : values) files.metadata.values.emplace(name, value);
  std::vector<TensorInfo> infos;
  for (const auto& [name, shape] : tensors) {
    TensorInfo info;
    info.name = name;
    info.shape = shape;
    infos.push_back(std::move(info));
  }
  files.tensors = TensorFiles({}, std::move(infos));
  return ReadModelConfig(files);
}

}  // namespace moxie::testing
