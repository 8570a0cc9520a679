#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "formats/npy.h"
#include "forward/decoder.h"
#include "memory/file_reader.h"
#include "memory/streamed_store.h"
#include "support/faulty_backend.h"
#include "support/shared.h"
#include "support/source_dir.h"

namespace moxie::testing {

/// A reference sequence of a golden folder: what Hugging Face computed.
struct GoldenSequence {
  std::string name;
  std::vector<int32_t> ids;
  std::optional<double> nll;
  NpyArray<float> logits;                 ///< [tokens, vocab]
  std::optional<NpyArray<float>> hidden;  ///< [layers + 1, tokens, dim]
  std::optional<NpyArray<float>> router;  ///< [mixture layers, tokens, experts]
  std::optional<NpyArray<int32_t>> experts;
  std::optional<NpyArray<float>> weights;
};

/// A folder of reference data: the values of one model, or of one with an adapter.
struct Golden {
  std::vector<GoldenSequence> sequences;
  std::vector<int32_t> prompt, greedy;
};

template <class T>
NpyArray<T> MustReadNpy(const std::filesystem::path& path) {
  auto array = ReadNpy<T>(path);
  if (array) return std::move(*array);
  ADD_FAILURE() << array.error().message;
  return {};
}

inline Golden ReadGolden(const std::filesystem::path& folder) {
  std::ifstream file(folder / "golden.json");
  const nlohmann::json json = nlohmann::json::parse(file);
  Golden golden;
  for (const auto& entry : json.at("sequences")) {
    GoldenSequence& sequence = golden.sequences.emplace_back();
    sequence.name = entry.at("name");
    sequence.ids = entry.at("ids").get<std::vector<int32_t>>();
    if (entry.contains("nll") && !entry["nll"].is_null()) sequence.nll = entry["nll"];
    sequence.logits = MustReadNpy<float>(folder / entry.at("logits"));
    if (entry.contains("hidden")) sequence.hidden = MustReadNpy<float>(folder / entry["hidden"]);
    if (!entry.contains("experts")) continue;
    sequence.router = MustReadNpy<float>(folder / entry.at("router_logits"));
    sequence.experts = MustReadNpy<int32_t>(folder / entry.at("experts"));
    sequence.weights = MustReadNpy<float>(folder / entry.at("expert_weights"));
  }
  const auto& greedy = json.at("greedy").is_array() ? json["greedy"][0] : json["greedy"];
  golden.prompt = greedy.at("prompt_ids").get<std::vector<int32_t>>();
  golden.greedy = greedy.at("ids").get<std::vector<int32_t>>();
  return golden;
}

/// A model opened for tests.
struct LoadedModel {
  ModelFiles files;
  ModelConfig config;
  ModelWeights weights;
};

inline Result<std::unique_ptr<LoadedModel>> LoadModel(const std::filesystem::path& path) {
  MOXIE_TRY_ASSIGN(ModelFiles files, OpenModelFiles(path));
  MOXIE_TRY_ASSIGN(ModelConfig config, ReadModelConfig(files));
  auto model = std::make_unique<LoadedModel>(
      LoadedModel{std::move(files), std::move(config), ModelWeights{}});
  MOXIE_TRY_ASSIGN(model->weights, LoadWeights(model->files, model->config));
  return model;
}

/// A decoder with its cache, threads and store.
struct Runner {
  struct Setup {
    const KernelSet* kernels = FindKernelSet("scalar");
    DType cache = DType::kF32;
    int threads = 2;
    int64_t page_tokens = 32;
    int64_t capacity_tokens = 1024;
    int32_t sequences = 4;
    std::vector<const AdapterWeights*> adapters = {};
    int64_t expert_slots = 0;  ///< 0: all weights in memory; else experts streamed into as many
    Faults* faults = nullptr;  ///< of the disk that they are streamed from
    int64_t block_tokens = 0;  ///< as Decoder::Options
  };

  Runner(const LoadedModel& model, const Setup& setup)
      : vocab(model.config.vocab_size), threads(setup.threads), store(MakeStore(model, setup)) {
    auto made_cache = KvCache::Create(model.config, {.type = setup.cache,
                                                     .capacity_tokens = setup.capacity_tokens,
                                                     .page_tokens = setup.page_tokens,
                                                     .max_chunk_tokens = 128,
                                                     .max_sequences = setup.sequences});
    auto made_decoder =
        Decoder::Create(model.config, model.weights, *store, *setup.kernels, threads,
                        {.max_tokens = 256,
                         .max_logit_rows = 256,
                         .block_tokens = setup.block_tokens,
                         .adapters = setup.adapters});
    if (!made_cache || !made_decoder) {
      ADD_FAILURE() << (made_cache ? made_decoder.error().message : made_cache.error().message);
      return;
    }
    cache = std::move(*made_cache);
    decoder = std::move(*made_decoder);
  }

  std::unique_ptr<ExpertStore> MakeStore(const LoadedModel& model, const Setup& setup) {
    if (setup.expert_slots == 0) return MakeResidentExpertStore(model.weights);
    FileReader::Options options = StreamReaderOptions(model.weights);
    if (Faults* const faults = setup.faults; faults != nullptr) {
      options.wrap = [faults](std::unique_ptr<ReadBackend> backend) {
        return std::make_unique<FaultyBackend>(std::move(backend), *faults);
      };
    }
    auto made = FileReader::Create(model.files.tensors.files(), options);
    if (!made) {
      ADD_FAILURE() << made.error().message;
      return nullptr;
    }
    reader = std::move(*made);
    return *MakeStreamedExpertStore(model.weights, *reader, setup.expert_slots);
  }

  SequenceId NewSequence() { return *cache->CreateSequence(); }

  /// Runs one chunk; its logits, of every token.
  std::vector<float> Run(SequenceId sequence, std::span<const int32_t> tokens,
                         const ForwardObservers& observers = {}) {
    std::vector<float> logits(tokens.size() * static_cast<size_t>(vocab));
    const SequenceChunk chunk{sequence, tokens, LogitRows::kAll};
    auto done = decoder->Forward({&chunk, 1}, *cache, logits, observers);
    if (!done) ADD_FAILURE() << done.error().message;
    return logits;
  }

  /// The logits of a new sequence, cut into chunks of the given sizes (the last one repeats).
  std::vector<float> RunInChunks(std::span<const int32_t> tokens, std::span<const size_t> sizes) {
    std::vector<float> all;
    const SequenceId sequence = NewSequence();
    for (size_t at = 0, i = 0; at < tokens.size(); ++i) {
      const size_t count = std::min(sizes[std::min(i, sizes.size() - 1)], tokens.size() - at);
      const auto logits = Run(sequence, tokens.subspan(at, count));
      all.insert(all.end(), logits.begin(), logits.end());
      at += count;
    }
    cache->FreeSequence(sequence);
    return all;
  }

  /// The most probable continuation, ties to the lower id.
  std::vector<int32_t> Greedy(std::span<const int32_t> prompt, size_t count) {
    std::vector<int32_t> ids;
    const SequenceId sequence = NewSequence();
    std::vector<float> logits = Run(sequence, prompt);
    while (ids.size() < count) {
      const auto last = logits.end() - vocab;
      ids.push_back(static_cast<int32_t>(std::max_element(last, logits.end()) - last));
      logits = Run(sequence, std::span(ids).last(1));
    }
    cache->FreeSequence(sequence);
    return ids;
  }

  int64_t vocab;
  ThreadPool threads;
  std::unique_ptr<FileReader> reader;  ///< of a streaming store
  std::unique_ptr<ExpertStore> store;
  std::unique_ptr<KvCache> cache;
  std::unique_ptr<Decoder> decoder;
};

inline float Largest(std::span<const float> values) {
  float largest = 0;
  for (const float value : values) largest = std::max(largest, std::abs(value));
  return largest;
}

/// The greatest difference, or infinity where the sizes differ or a number is not one.
inline float Distance(std::span<const float> a, std::span<const float> b) {
  if (a.size() != b.size()) return std::numeric_limits<float>::infinity();
  float distance = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const float d = std::abs(a[i] - b[i]);
    if (!(d <= distance)) distance = std::isnan(d) ? std::numeric_limits<float>::infinity() : d;
  }
  return distance;
}

/// The folders with golden.json and config.json: the project's own and those beside it.
inline std::vector<std::filesystem::path> GoldenModelFolders() {
  std::vector<std::filesystem::path> folders;
  const auto collect = [&](const std::filesystem::path& dir) {
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(dir, error)) {
      if (std::filesystem::exists(entry.path() / "golden.json") &&
          std::filesystem::exists(entry.path() / "config.json"))
        folders.push_back(entry.path());
    }
  };
  collect(SourceDir() / "tests" / "golden" / "models");
  if (const auto shared = SharedDir()) collect(*shared / "golden");
  std::ranges::sort(folders);
  return folders;
}

/// A test's name from a folder's: letters, digits and underscores, with where it lies.
inline std::string FolderTestName(const std::filesystem::path& folder) {
  std::string name = folder.parent_path().filename().string() + "_" + folder.filename().string();
  for (char& c : name) {
    if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
  }
  return name;
}

}  // namespace moxie::testing
