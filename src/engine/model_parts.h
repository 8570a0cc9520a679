#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/page_buffer.h"
#include "core/thread_pool.h"
#include "engine/sizing.h"
#include "forward/decoder.h"
#include "memory/expert_store.h"
#include "memory/file_reader.h"
#include "memory/kv_cache.h"
#include "model/adapter.h"
#include "model/config.h"
#include "model/weights.h"
#include "moxie/model.h"
#include "tokenizer/chat_template.h"
#include "tokenizer/tokenizer.h"

namespace moxie {

/// What an opened model consists of, in the order in which one part refers to those before it.
struct Model::Parts {
  Parts(ModelFiles opened, const ModelOptions& given) : options(given), files(std::move(opened)) {}

  ModelOptions options;  ///< with every default filled in
  ModelFiles files;
  HeadBytes head;
  ModelConfig config;
  ModelWeights weights;
  std::vector<AdapterWeights> adapters;
  std::unique_ptr<Tokenizer> tokenizer;
  std::string chat_template_source;                   ///< or empty
  std::optional<Result<ChatTemplate>> chat_template;  ///< compiled where there is a source
  const KernelSet* kernels = nullptr;
  std::unique_ptr<ThreadPool> threads;
  PageBuffer weight_memory;                  ///< where `weights` lie
  std::unique_ptr<FileReader> expert_files;  ///< where experts are streamed
  std::unique_ptr<ExpertStore> experts;
  KvCache::Options cache_options;
  int64_t pass_tokens =
      0;  ///< of one forward pass: batch_tokens, or more where experts are streamed
  std::unique_ptr<KvCache> cache;
  std::unique_ptr<Decoder> decoder;
  MemoryNeed need;
  double planned_hit_rate = 1;  ///< of experts, found in memory
  bool experts_on_disk() const { return expert_files != nullptr; }
  std::string read_method;
  double load_seconds = 0;
};

/// Reads everything but the weights' bytes: files, configuration, where the weights lie (what must
/// be rearranged is), tokenizer, template; chooses the kernels and completes the options.
///
/// Errors: as Model::Open's.
Result<std::unique_ptr<Model::Parts>> ReadHead(const std::string& path,
                                               const ModelOptions& options);

/// Counts what the process holds now apart from what the plan counts by shapes.
void CountProcess(Model::Parts& parts);

/// Reads the weights into memory, but for the experts where `expert_slots` is more than 0: those
/// are then read on demand, into as many slots. Sets weight_memory, experts and what belongs to
/// them.
///
/// Errors: kOverBudget, kIo, kCancelled.
Result<void> PlaceWeights(Model::Parts& parts, int64_t expert_slots);

/// The chat template's source of opened files: a GGUF's tokenizer.chat_template, a folder's
/// chat_template.jinja or the entry in its tokenizer_config.json (of several, "default"). Empty
/// where there is none.
Result<std::string> ReadChatTemplate(const ModelFiles& files);

}  // namespace moxie
