#include <algorithm>

#include "core/process_memory.h"
#include "engine/model_parts.h"
#include "engine/sizing.h"
#include "memory/resident_weights.h"

namespace moxie {
namespace {

int64_t HeapWeights(Model::Parts& parts) {
  return PlacesOf(parts.config, parts.weights, parts.files.tensors).heap;
}

}  // namespace

void CountProcess(Model::Parts& parts) {
  parts.files.tensors.ReleasePages();
  ReleaseFreeHeap();  // Reading leaves holes of its own size.
  PopulateProgram();
  parts.head.process =
      std::max<int64_t>(0, ResidentBytes() - parts.head.tokenizer - HeapWeights(parts));
}

Result<std::unique_ptr<Model::Parts>> ReadHead(const std::string& path,
                                               const ModelOptions& options) {
  const int64_t heap_before = HeapBytes();
  const int64_t peak_before = PeakResidentBytes();
  MOXIE_TRY_ASSIGN(ModelFiles files, OpenModelFiles(path));
  auto parts = std::make_unique<Model::Parts>(std::move(files), options);
  MOXIE_TRY_ASSIGN(parts->kernels, ChooseKernels(options));
  MOXIE_TRY_ASSIGN(parts->config, ReadModelConfig(parts->files));
  MOXIE_TRY(CompleteOptions(parts->config, parts->options));
  MOXIE_TRY_ASSIGN(parts->tokenizer, LoadTokenizer(parts->files));
  MOXIE_TRY_ASSIGN(parts->chat_template_source, ReadChatTemplate(parts->files));
  if (!parts->chat_template_source.empty())
    parts->chat_template.emplace(ChatTemplate::Compile(parts->chat_template_source));
  MOXIE_TRY_ASSIGN(parts->weights, LoadWeights(parts->files, parts->config));
  const int64_t peak = PeakResidentBytes();
  if (peak > peak_before) parts->head.peak = peak;
  parts->head.tokenizer = std::max<int64_t>(0, HeapBytes() - heap_before - HeapWeights(*parts));
  CountProcess(*parts);
  return parts;
}

}  // namespace moxie
