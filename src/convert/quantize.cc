#include "moxie/quantize.h"

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

#include "convert/gguf_metadata.h"
#include "convert/importance_file.h"
#include "convert/mix.h"
#include "convert/tensor_plan.h"
#include "convert/tensor_stream.h"
#include "core/printable.h"
#include "model/config.h"
#include "quant/quantize.h"

namespace moxie {
namespace {

constexpr int64_t kDefaultMemory = int64_t{64} << 20;
constexpr uint32_t kQuantizationVersion = 2;  // ggml's GGML_QNT_VERSION: of the block formats.

int64_t BytesOfTensor(DType type, const TensorSpec& tensor) {
  int64_t elements = 1;
  for (const int64_t d : tensor.shape) elements *= d;
  return BytesOf(type, elements).value();
}

/// What is to be written, in the types that the source has.
struct Source {
  std::vector<PlannedTensor> tensors;
  GgufMetadata metadata;
};

Result<Source> ReadSource(const ModelFiles& files) {
  Source source;
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

/// Whether `text` matches a pattern of * and ?.
bool Matches(std::string_view pattern, std::string_view text) {
  size_t p = 0;
  size_t star = pattern.npos;  // The last star, and the text from where it was tried.
  size_t from = 0;
  for (size_t t = 0; t < text.size();) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      from = t;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == text[t])) {
      ++p;
      ++t;
    } else if (star != pattern.npos) {
      p = star + 1;
      t = ++from;
    } else {
      return false;
    }
  }
  return std::ranges::all_of(pattern.substr(p), [](char c) { return c == '*'; });
}

/// The types of all tensors: those of the rules, else of the mix.
Result<std::vector<DType>> TypesFor(const std::vector<TensorSpec>& specs, const Mix& mix,
                                    const MixModel& model, const QuantizeOptions& options) {
  std::vector<DType> types = ChooseTypes(mix, model, specs);
  std::vector<DType> wanted;
  for (const TensorTypeRule& rule : options.tensor_types) {
    const std::optional<DType> type = DTypeFromName(rule.type);
    if (!type || !CanQuantize(*type))
      return Error{ErrorCode::kInvalidInput, "--tensor-type names \"" + Printable(rule.type, 60) +
                                                 "\", but must name a type that can be written, "
                                                 "such as q6_k"};
    wanted.push_back(*type);
  }
  std::vector<bool> used(wanted.size());
  for (size_t i = 0; i < specs.size(); ++i) {
    const auto rule = std::ranges::find_if(
        options.tensor_types, [&](const auto& r) { return Matches(r.pattern, specs[i].name); });
    if (rule == options.tensor_types.end()) continue;
    const auto index = static_cast<size_t>(rule - options.tensor_types.begin());
    used[index] = true;
    if (IsQuantisable(specs[i])) types[i] = FittingType(wanted[index], specs[i].shape.back());
  }
  const auto unused = std::ranges::find(used, false);
  if (unused != used.end())
    return Error{
        ErrorCode::kInvalidInput,
        "--tensor-type: no tensor matches " +
            Printable(options.tensor_types[static_cast<size_t>(unused - used.begin())].pattern,
                      60)};
  return types;
}

/// One run: the plan, and what it is made with.
class Quantisation {
 public:
  Quantisation(Source source, const Mix& mix, const QuantizeOptions& options)
      : mix_(mix), options_(options), source_(std::move(source)) {}

  Result<void> Plan() {
    std::vector<TensorSpec> specs;
    for (const PlannedTensor& tensor : source_.tensors) specs.push_back(tensor.spec);
    MOXIE_TRY_ASSIGN(MixModel model, ReadMixModel(source_.metadata));
    model.has_importance = !options_.importance.empty();
    MOXIE_TRY_ASSIGN(const std::vector<DType> types, TypesFor(specs, mix_, model, options_));
    Importance importance;
    if (model.has_importance) {
      MOXIE_TRY_ASSIGN(importance, ReadImportance(options_.importance));
    }
    for (size_t i = 0; i < types.size(); ++i) {
      MOXIE_TRY(PlanTensor(types[i], importance, source_.tensors[i]));
    }
    Describe(importance);
    return {};
  }

  Result<QuantizeReport> Write(const ModelFiles& files, const std::string& out) {
    ThreadPool threads(options_.threads > 0 ? options_.threads : UsableCpus());
    std::function<bool(int64_t)> progress;
    if (options_.progress) {
      progress = [this](int64_t bytes) {
        return options_.progress(static_cast<double>(bytes) /
                                 static_cast<double>(report_.bytes_after));
      };
    }
    TensorStream stream(files, options_.memory_bytes > 0 ? options_.memory_bytes : kDefaultMemory,
                        threads, std::move(progress));
    std::vector<TensorSpec> specs;
    for (const PlannedTensor& tensor : source_.tensors) {
      MOXIE_TRY(stream.CheckMemory(tensor));
      specs.push_back(tensor.spec);
    }
    MOXIE_TRY_ASSIGN(TensorWriter writer, TensorWriter::CreateGguf(out, source_.metadata, specs));
    for (const PlannedTensor& tensor : source_.tensors) MOXIE_TRY(stream.Write(tensor, writer));
    MOXIE_TRY(writer.Finish());
    return report_;
  }

 private:
  Result<void> PlanTensor(DType type, const Importance& importance, PlannedTensor& tensor) {
    const int64_t before = BytesOfTensor(tensor.spec.type, tensor.spec);
    const bool changes = type != tensor.spec.type;
    if (changes && TraitsOf(type).block_elements > 1 && !importance.entries.empty()) {
      const auto& shape = tensor.spec.shape;
      const int64_t matrices = shape.size() > 2 ? shape[0] : 1;
      MOXIE_TRY_ASSIGN(auto weights, importance.Weights(tensor.spec.name, matrices, shape.back()));
      if (weights && tensor.parts.size() == 1) {
        tensor.importance = std::move(*weights);
      } else {
        report_.unweighed.push_back(tensor.spec.name);
      }
    }
    tensor.spec.type = type;
    const int64_t after = BytesOfTensor(type, tensor.spec);
    report_.bytes_before += before;
    report_.bytes_after += after;
    const std::string name(NameOf(type));
    auto share = std::ranges::find(report_.types, name, &QuantizeReport::Share::type);
    if (share == report_.types.end()) share = report_.types.insert(share, {name, 0, 0});
    ++share->tensors;
    share->bytes += after;
    return {};
  }

  /// What the file says about itself, in the keys that llama.cpp's files have.
  void Describe(const Importance& importance) {
    std::ranges::sort(report_.types, std::greater<>(), &QuantizeReport::Share::bytes);
    auto& values = source_.metadata.values;
    values["general.file_type"] = mix_.file_type;
    values["general.quantization_version"] = kQuantizationVersion;
    if (options_.importance.empty()) return;
    values["quantize.imatrix.file"] = options_.importance;
    values["quantize.imatrix.entries_count"] = static_cast<uint32_t>(importance.entries.size());
    values["quantize.imatrix.chunks_count"] = static_cast<uint32_t>(importance.chunks);
    if (!importance.datasets.empty())
      values["quantize.imatrix.dataset"] = importance.datasets.front();
  }

  const Mix& mix_;
  const QuantizeOptions& options_;
  Source source_;
  QuantizeReport report_;
};

}  // namespace

Result<QuantizeReport> QuantizeModel(const std::string& in, const std::string& out,
                                     const QuantizeOptions& options) {
  const Mix* mix = FindMix(options.type);
  if (mix == nullptr)
    return Error{ErrorCode::kInvalidInput, "--type is \"" + Printable(options.type, 60) +
                                               "\", but must be one of " + MixNames()};
  MOXIE_TRY_ASSIGN(const ModelFiles files, OpenModelFiles(in));
  MOXIE_TRY_ASSIGN(Source source, ReadSource(files));
  Quantisation quantisation(std::move(source), *mix, options);
  MOXIE_TRY(quantisation.Plan());
  return quantisation.Write(files, out);
}

std::string QuantizeTypeNames() { return MixNames(); }

}  // namespace moxie
