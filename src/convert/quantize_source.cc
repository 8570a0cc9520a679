#include "convert/quantize_source.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "convert/gguf_metadata.h"
#include "model/config.h"
#include "model/names.h"

namespace moxie {

Result<QuantizeSource> ReadQuantizeSource(const ModelFiles& files) {
  QuantizeSource source;
  if (files.layout == FileLayout::kGguf) {
    source.metadata = files.metadata;
    for (const TensorInfo& tensor : files.tensors.tensors()) {
      PlannedTensor planned;
      planned.spec = {tensor.name, tensor.type, tensor.shape};
      planned.parts = {ViewOf(tensor, files.tensors.Bytes(tensor).data())};
      source.tensors.push_back(std::move(planned));
    }
    return source;
  }
  MOXIE_TRY_ASSIGN(const ModelConfig config, ReadModelConfig(files));
  MOXIE_TRY_ASSIGN(source.metadata, ModelMetadata(files, config));
  MOXIE_TRY(AddTokenizerMetadata(files, config, &source.metadata));
  MOXIE_TRY_ASSIGN(source.tensors,
                   PlanTensors(files, config, FileLayout::kGguf, std::optional<DType>()));
  return source;
}

void SeparateExperts(std::vector<PlannedTensor>& tensors) {
  const TensorNames& names = NamesOf(FileLayout::kGguf);
  const std::pair<std::string_view, std::string_view> forms[] = {
      {names.experts_gate[0], names.expert_gate[0]},
      {names.experts_up[0], names.expert_up[0]},
      {names.experts_down[0], names.expert_down[0]}};
  const auto has_bias = [](const PlannedTensor& t) { return t.spec.name.ends_with("_exps.bias"); };
  if (std::ranges::any_of(tensors, has_bias)) return;
  std::vector<PlannedTensor> separate;
  for (PlannedTensor& tensor : tensors) {
    const std::string prefix =
        WithNumber(names.layer_prefix, LayerOf(FileLayout::kGguf, tensor.spec.name));
    const auto form = std::ranges::find_if(forms, [&](const auto& f) {
      return tensor.spec.name == prefix + std::string(f.first) + ".weight";
    });
    if (form == std::end(forms)) {
      separate.push_back(std::move(tensor));
      continue;
    }
    int64_t expert = 0;
    for (TensorView& view : tensor.Matrices()) {
      PlannedTensor& own = separate.emplace_back();
      own.spec = {prefix + WithNumber(form->second, expert++) + ".weight",
                  tensor.spec.type,
                  {tensor.spec.shape[1], tensor.spec.shape[2]}};
      own.parts = {std::move(view)};
    }
  }
  tensors = std::move(separate);
}

}  // namespace moxie
