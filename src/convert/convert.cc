#include "moxie/convert.h"

#include <algorithm>
#include <cstdio>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "convert/folder.h"
#include "convert/gguf_metadata.h"
#include "convert/tensor_plan.h"
#include "convert/tensor_stream.h"
#include "core/printable.h"
#include "model/names.h"
#include "quant/quantize.h"

namespace moxie {
namespace {

constexpr int64_t kDefaultMemory = int64_t{64} << 20;
constexpr int64_t kDefaultShard = 5'000'000'000;  // As Hugging Face's own.
constexpr size_t kMaxSplits = 65'535;
constexpr std::string_view kGgufEnd = ".gguf";

int64_t TensorBytesOf(const PlannedTensor& tensor) {
  int64_t elements = 1;
  for (const int64_t d : tensor.spec.shape) elements *= d;
  return BytesOf(tensor.spec.type, elements).value();
}

/// Consecutive tensors that go into one file each, at least one and else at most `limit` bytes.
std::vector<std::span<const PlannedTensor>> Partition(std::span<const PlannedTensor> tensors,
                                                      int64_t limit) {
  std::vector<std::span<const PlannedTensor>> files;
  size_t first = 0;
  int64_t bytes = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const int64_t size = TensorBytesOf(tensors[i]);
    if (i > first && bytes + size > limit) {
      files.push_back(tensors.subspan(first, i - first));
      first = i;
      bytes = 0;
    }
    bytes += size;
  }
  files.push_back(tensors.subspan(first));
  return files;
}

std::vector<TensorSpec> SpecsOf(std::span<const PlannedTensor> tensors) {
  std::vector<TensorSpec> specs;
  for (const PlannedTensor& tensor : tensors) specs.push_back(tensor.spec);
  return specs;
}

/// "-00002-of-00005".
std::string Numbered(size_t index, size_t count) {
  char text[32];
  std::snprintf(text, sizeof text, "-%05zu-of-%05zu", index + 1, count);
  return text;
}

/// One conversion: what is read, and the means to write it.
class Conversion {
 public:
  Conversion(const ModelFiles& files, std::vector<PlannedTensor> plan,
             const ConvertOptions& options)
      : plan_(std::move(plan)),
        threads_(options.threads > 0 ? options.threads : UsableCpus()),
        stream_(files, options.memory_bytes > 0 ? options.memory_bytes : kDefaultMemory, threads_,
                BestKernelSet(), Progress(options)) {}

  /// Checked before anything is written.
  Result<void> CheckMemory() const {
    for (const PlannedTensor& tensor : plan_) MOXIE_TRY(stream_.CheckMemory(tensor));
    return {};
  }

  Result<void> WriteGguf(const std::string& out, const GgufMetadata& metadata, int64_t limit) {
    const auto files = Partition(plan_, limit);
    if (files.size() > kMaxSplits)
      return Error{ErrorCode::kInvalidInput, out + ": would take " + std::to_string(files.size()) +
                                                 " files, but at most " +
                                                 std::to_string(kMaxSplits) + " are possible"};
    std::vector<TensorWriter> writers;
    for (size_t i = 0; i < files.size(); ++i) {
      std::string path = out;
      if (files.size() > 1) {
        if (path.ends_with(kGgufEnd)) path.resize(path.size() - kGgufEnd.size());
        path += Numbered(i, files.size()) + std::string(kGgufEnd);
      }
      const SplitPlace place{static_cast<uint16_t>(i), static_cast<uint16_t>(files.size()),
                             static_cast<int32_t>(plan_.size())};
      MOXIE_TRY_ASSIGN(TensorWriter writer,
                       TensorWriter::CreateGguf(path, i == 0 ? metadata : GgufMetadata{},
                                                SpecsOf(files[i]), place));
      MOXIE_TRY(stream_.Write(files[i], writer));
      writers.push_back(std::move(writer));
    }
    // The first comes last: without it a set is none.
    for (size_t i = writers.size(); i-- > 0;) MOXIE_TRY(writers[i].Finish());
    return {};
  }

  Result<void> WriteSafetensors(FolderWriter& folder, int64_t limit) {
    const auto files = Partition(plan_, limit);
    for (size_t i = 0; i < files.size(); ++i) {
      const std::string name =
          "model" + (files.size() > 1 ? Numbered(i, files.size()) : "") + ".safetensors";
      MOXIE_TRY_ASSIGN(TensorWriter writer,
                       TensorWriter::CreateSafetensors(folder.path() / name, {{"format", "pt"}},
                                                       SpecsOf(files[i])));
      MOXIE_TRY(stream_.Write(files[i], writer));
      MOXIE_TRY(writer.Finish());
      for (const PlannedTensor& tensor : files[i])
        folder.AddToIndex(tensor.spec.name, name, TensorBytesOf(tensor));
    }
    return files.size() > 1 ? folder.WriteIndex() : Result<void>();
  }

  const std::vector<PlannedTensor>& plan() const { return plan_; }

 private:
  std::function<bool(int64_t)> Progress(const ConvertOptions& options) const {
    if (!options.progress) return {};
    int64_t all = 0;
    for (const PlannedTensor& tensor : plan_) all += TensorBytesOf(tensor);
    return [progress = options.progress, all](int64_t bytes) {
      return progress(static_cast<double>(bytes) / static_cast<double>(all));
    };
  }

  std::vector<PlannedTensor> plan_;
  ThreadPool threads_;
  TensorStream stream_;
};

Result<std::optional<DType>> WantedType(const ConvertOptions& options, bool to_gguf) {
  if (options.type.empty()) return std::optional<DType>();
  const std::optional<DType> type = DTypeFromName(options.type);
  const bool is_float = type == DType::kF32 || type == DType::kF16 || type == DType::kBF16;
  if (type && (to_gguf ? CanQuantize(*type) : is_float)) return type;
  return Error{ErrorCode::kInvalidInput,
               "--type is \"" + Printable(options.type, 60) + "\", but must be " +
                   (to_gguf ? "a type that can be written, such as bf16, f16, f32 or q8_0"
                            : "bf16, f16 or f32 for a folder")};
}

Result<void> ConvertToGguf(const ModelFiles& files, const ModelConfig& config,
                           const std::string& out, const ConvertOptions& options) {
  MOXIE_TRY_ASSIGN(const std::optional<DType> type, WantedType(options, true));
  MOXIE_TRY_ASSIGN(GgufMetadata metadata, ModelMetadata(files, config));
  MOXIE_TRY_ASSIGN(std::vector<PlannedTensor> plan,
                   PlanTensors(files, config, FileLayout::kGguf, type));
  metadata.values["general.file_type"] = FileTypeNumber(type.value_or(MainType(plan)));
  Conversion conversion(files, std::move(plan), options);
  MOXIE_TRY(conversion.CheckMemory());
  MOXIE_TRY(AddTokenizerMetadata(files, config, &metadata));
  return conversion.WriteGguf(out, metadata,
                              options.split_bytes > 0 ? options.split_bytes : INT64_MAX);
}

Result<void> ConvertToFolder(const ModelFiles& files, const ModelConfig& config,
                             const std::string& out, const ConvertOptions& options) {
  if (out.ends_with(kGgufEnd)) {
    return Error{ErrorCode::kInvalidInput,
                 DisplayName(files) + ": is a GGUF, which becomes a folder, but " + out +
                     " is named like a GGUF (moxie quantize changes types)"};
  }
  MOXIE_TRY_ASSIGN(const std::optional<DType> type, WantedType(options, false));
  MOXIE_TRY_ASSIGN(std::vector<PlannedTensor> plan,
                   PlanTensors(files, config, FileLayout::kHuggingFace, type));
  Conversion conversion(files, std::move(plan), options);
  MOXIE_TRY(conversion.CheckMemory());
  MOXIE_TRY_ASSIGN(FolderWriter folder, FolderWriter::Create(out));
  MOXIE_TRY(WriteFolderConfig(files, config, conversion.plan(), folder));
  MOXIE_TRY(WriteFolderTokenizer(files, folder));
  MOXIE_TRY(conversion.WriteSafetensors(
      folder, options.split_bytes > 0 ? options.split_bytes : kDefaultShard));
  return folder.Finish();
}

}  // namespace

Result<void> Convert(const std::string& in, const std::string& out, const ConvertOptions& options) {
  MOXIE_TRY_ASSIGN(const ModelFiles files, OpenModelFiles(in));
  MOXIE_TRY_ASSIGN(const ModelConfig config, ReadModelConfig(files));
  const bool is_gguf = files.layout == FileLayout::kGguf;
  return is_gguf ? ConvertToFolder(files, config, out, options)
                 : ConvertToGguf(files, config, out, options);
}

}  // namespace moxie
