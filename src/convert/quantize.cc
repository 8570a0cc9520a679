#include "moxie/quantize.h"

#include <algorithm>
#include <optional>
#include <span>
#include <utility>

#include "convert/gguf_metadata.h"
#include "convert/importance_file.h"
#include "convert/quantize_source.h"
#include "convert/size_choice.h"
#include "convert/tensor_stream.h"
#include "core/printable.h"
#include "model/mix.h"
#include "quant/quantize.h"

namespace moxie {
namespace {

constexpr int64_t kDefaultMemory = int64_t{64} << 20;
constexpr double kChoosingShare = 0.9;        // of the progress
constexpr uint32_t kQuantizationVersion = 2;  // ggml's GGML_QNT_VERSION: of the block formats.

int64_t BytesOfTensor(DType type, const TensorSpec& tensor) {
  int64_t elements = 1;
  for (const int64_t d : tensor.shape) elements *= d;
  return BytesOf(type, elements).value();
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

/// The type that a rule gives each tensor, nothing where none does or the tensor stays as it is.
Result<std::vector<std::optional<DType>>> RuledTypes(std::span<const TensorSpec> specs,
                                                     std::span<const TensorTypeRule> rules) {
  std::vector<DType> wanted;
  for (const TensorTypeRule& rule : rules) {
    const std::optional<DType> type = DTypeFromName(rule.type);
    if (!type || !CanQuantize(*type))
      return Error{ErrorCode::kInvalidInput, "--tensor-type names \"" + Printable(rule.type, 60) +
                                                 "\", but must name a type that can be written, "
                                                 "such as q6_k"};
    wanted.push_back(*type);
  }
  std::vector<bool> used(wanted.size());
  std::vector<std::optional<DType>> types(specs.size());
  for (size_t i = 0; i < specs.size(); ++i) {
    const auto rule = std::ranges::find_if(
        rules, [&](const auto& r) { return Matches(r.pattern, specs[i].name); });
    if (rule == rules.end()) continue;
    const auto index = static_cast<size_t>(rule - rules.begin());
    used[index] = true;
    if (IsQuantisable(specs[i])) types[i] = FittingType(wanted[index], specs[i].shape.back());
  }
  const auto unused = std::ranges::find(used, false);
  if (unused != used.end())
    return Error{ErrorCode::kInvalidInput,
                 "--tensor-type: no tensor matches " +
                     Printable(rules[static_cast<size_t>(unused - used.begin())].pattern, 60)};
  return types;
}

std::vector<TensorSpec> SpecsOf(const QuantizeSource& source) {
  std::vector<TensorSpec> specs;
  for (const PlannedTensor& tensor : source.tensors) specs.push_back(tensor.spec);
  return specs;
}

/// One run: the plan, and what it is made with.
class Quantisation {
 public:
  Quantisation(const std::string& in, QuantizeSource source, const QuantizeOptions& options)
      : in_(in), options_(options), source_(std::move(source)) {}

  Result<void> Plan() {
    const bool sized = options_.type.empty();
    if (!options_.importance.empty()) {
      MOXIE_TRY_ASSIGN(importance_, ReadImportance(options_.importance));
    }
    if (sized && !options_.stacked) SeparateExperts(source_.tensors);
    const std::vector<TensorSpec> specs = SpecsOf(source_);
    MOXIE_TRY_ASSIGN(const auto ruled, RuledTypes(specs, options_.tensor_types));
    MOXIE_TRY_ASSIGN(const std::vector<DType> types,
                     sized ? TypesForSize(ruled) : TypesOfMix(specs, ruled));
    for (size_t i = 0; i < types.size(); ++i) MOXIE_TRY(PlanTensor(types[i], source_.tensors[i]));
    if (sized)
      source_.metadata.values["general.file_type"] = FileTypeNumber(MainType(source_.tensors));
    Describe();
    return {};
  }

  Result<QuantizeReport> Write(const ModelFiles& files, const std::string& out) {
    ThreadPool threads(options_.threads > 0 ? options_.threads : UsableCpus());
    std::function<bool(int64_t)> progress;
    if (options_.progress) {
      progress = [this](int64_t bytes) {
        const double share = static_cast<double>(bytes) / static_cast<double>(report_.bytes_after);
        return options_.progress(chosen_share_ + (1 - chosen_share_) * share);
      };
    }
    TensorStream stream(files, options_.memory_bytes > 0 ? options_.memory_bytes : kDefaultMemory,
                        threads, BestKernelSet(), std::move(progress));
    for (const PlannedTensor& tensor : source_.tensors) MOXIE_TRY(stream.CheckMemory(tensor));
    MOXIE_TRY_ASSIGN(TensorWriter writer,
                     TensorWriter::CreateGguf(out, source_.metadata, SpecsOf(source_)));
    MOXIE_TRY(stream.Write(source_.tensors, writer));
    MOXIE_TRY(writer.Finish());
    return report_;
  }

 private:
  Result<std::vector<DType>> TypesOfMix(std::span<const TensorSpec> specs,
                                        std::span<const std::optional<DType>> ruled) {
    const Mix* const mix = FindMix(options_.type);
    MOXIE_TRY_ASSIGN(MixModel model, ReadMixModel(source_.metadata));
    model.has_importance = !options_.importance.empty();
    std::vector<DType> types = ChooseTypes(*mix, model, specs);
    for (size_t i = 0; i < types.size(); ++i) types[i] = ruled[i].value_or(types[i]);
    source_.metadata.values["general.file_type"] = mix->file_type;
    return types;
  }

  Result<std::vector<DType>> TypesForSize(std::span<const std::optional<DType>> ruled) {
    std::function<bool(double)> progress;
    if (options_.progress) {
      chosen_share_ = kChoosingShare;
      progress = [this](double share) { return options_.progress(kChoosingShare * share); };
    }
    MOXIE_TRY_ASSIGN(const SizeChoice choice,
                     ChooseForSize(in_, source_, ruled, options_, importance_, progress));
    std::vector<DType> types;
    std::string table;
    for (size_t i = 0; i < choice.options.size(); ++i) {
      const TypeOption& option = choice.options[i];
      const TensorSpec& spec = source_.tensors[i].spec;
      types.push_back(option.type);
      if (!IsQuantisable(spec)) continue;
      report_.choices.push_back(
          {spec.name, std::string(NameOf(option.type)), option.bytes, option.divergence});
      table += ChoiceLine(spec.name, option);
    }
    source_.metadata.values[std::string(kChoicesKey)] = table;
    return types;
  }

  Result<void> PlanTensor(DType type, PlannedTensor& tensor) {
    const int64_t before = BytesOfTensor(tensor.spec.type, tensor.spec);
    const bool changes = type != tensor.spec.type;
    if (changes && TraitsOf(type).block_elements > 1 && !importance_.entries.empty()) {
      const auto& shape = tensor.spec.shape;
      const int64_t matrices = shape.size() > 2 ? shape[0] : 1;
      MOXIE_TRY_ASSIGN(auto weights, importance_.Weights(tensor.spec.name, matrices, shape.back()));
      if (weights && matrices % std::ssize(tensor.parts) == 0) {
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
  void Describe() {
    std::ranges::sort(report_.types, std::greater<>(), &QuantizeReport::Share::bytes);
    auto& values = source_.metadata.values;
    values["general.quantization_version"] = kQuantizationVersion;
    if (importance_.entries.empty()) return;
    values["quantize.imatrix.file"] = options_.importance;
    values["quantize.imatrix.entries_count"] = static_cast<uint32_t>(importance_.entries.size());
    values["quantize.imatrix.chunks_count"] = static_cast<uint32_t>(importance_.chunks);
    if (!importance_.datasets.empty())
      values["quantize.imatrix.dataset"] = importance_.datasets.front();
  }

  const std::string& in_;
  const QuantizeOptions& options_;
  QuantizeSource source_;
  Importance importance_;
  QuantizeReport report_;
  double chosen_share_ = 0;  ///< of the progress, before anything is written
};

Result<void> CheckAim(const QuantizeOptions& options) {
  const int aims = (options.type.empty() ? 0 : 1) + (options.size_bytes > 0 ? 1 : 0) +
                   (options.bits > 0 ? 1 : 0);
  if (aims != 1)
    return Error{ErrorCode::kInvalidInput, "one of --type, --size and --bits is needed"};
  if (!options.type.empty() && FindMix(options.type) == nullptr)
    return Error{ErrorCode::kInvalidInput, "--type is \"" + Printable(options.type, 60) +
                                               "\", but must be one of " + MixNames()};
  if (options.type.empty() && options.text.empty())
    return Error{ErrorCode::kInvalidInput,
                 "a text to probe the model with is needed (--file), but it is empty"};
  return {};
}

}  // namespace

Result<QuantizeReport> QuantizeModel(const std::string& in, const std::string& out,
                                     const QuantizeOptions& options) {
  MOXIE_TRY(CheckAim(options));
  MOXIE_TRY_ASSIGN(const ModelFiles files, OpenModelFiles(in));
  MOXIE_TRY_ASSIGN(QuantizeSource source, ReadQuantizeSource(files));
  Quantisation quantisation(in, std::move(source), options);
  MOXIE_TRY(quantisation.Plan());
  return quantisation.Write(files, out);
}

std::string QuantizeTypeNames() { return MixNames(); }

}  // namespace moxie
