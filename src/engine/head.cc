#include <algorithm>

#include "core/process_memory.h"
#include "engine/model_parts.h"
#include "engine/sizing.h"

namespace moxie {
namespace {

/// Bytes before the tensors of each file: mapped, and read whole.
int64_t BytesBeforeTensors(const TensorFiles& files) {
  std::vector<uint64_t> first;
  for (const MappedFile& file : files.files()) first.push_back(file.bytes().size());
  for (const TensorInfo& tensor : files.tensors()) {
    uint64_t& offset = first[static_cast<size_t>(tensor.file)];
    offset = std::min(offset, tensor.offset);
  }
  int64_t sum = 0;
  for (const uint64_t offset : first) sum += static_cast<int64_t>(offset);
  return sum;
}

}  // namespace

Result<std::unique_ptr<Model::Parts>> ReadHead(const std::string& path,
                                               const ModelOptions& options) {
  const int64_t before = HeapBytes();
  MOXIE_TRY_ASSIGN(ModelFiles files, OpenModelFiles(path));
  auto parts = std::make_unique<Model::Parts>(std::move(files), options);
  MOXIE_TRY_ASSIGN(parts->kernels, ChooseKernels(options.kernels));
  MOXIE_TRY_ASSIGN(parts->config, ReadModelConfig(parts->files));
  MOXIE_TRY(CompleteOptions(parts->config, parts->options));
  MOXIE_TRY_ASSIGN(parts->tokenizer, LoadTokenizer(parts->files));
  MOXIE_TRY_ASSIGN(parts->chat_template_source, ReadChatTemplate(parts->files));
  if (!parts->chat_template_source.empty())
    parts->chat_template.emplace(ChatTemplate::Compile(parts->chat_template_source));
  // Reading leaves holes of its own size in the heap.
  ReleaseFreeHeap();
  parts->head_bytes = HeapBytes() - before + BytesBeforeTensors(parts->files.tensors);
  return parts;
}

}  // namespace moxie
