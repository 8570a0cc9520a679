#include "convert/size_choice.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>
#include <utility>

#include "convert/importance.h"
#include "convert/type_costs.h"
#include "core/dtype.h"
#include "model/mix.h"

namespace moxie {
namespace {

constexpr int64_t kWindow = 512;  // tokens, as for importance and for all probes at once
constexpr int64_t kImportanceWindows = 16;
constexpr int kSequences = 4;             // that a probe runs at once
constexpr double kImportanceShare = 0.1;  // of the progress, where it is measured

/// Opens the model with room for the windows of importance and for the pieces of probing.
Result<std::unique_ptr<Model>> OpenForProbing(const std::string& in, int threads) {
  ModelOptions options;
  options.context = kWindow;
  options.batch_tokens = kWindow;
  options.parallel = kSequences;
  options.threads = threads;
  options.pack_weights = false;  // Probes disturb them row by row.
  return Model::Open(in, options);
}

/// Bytes that all tensors may take together.
Result<int64_t> Budget(const QuantizeSource& source, const QuantizeOptions& options,
                       std::span<const std::vector<TypeOption>> tensors) {
  if (options.bits > 0) {
    double elements = 0;
    for (const PlannedTensor& tensor : source.tensors) {
      double own = 1;
      for (const int64_t d : tensor.spec.shape) own *= static_cast<double>(d);
      elements += own;
    }
    return static_cast<int64_t>(std::min(options.bits / 8 * elements, 0x1p62));
  }
  // All that is not data: the header as long as it can become, and a pad after each tensor.
  GgufMetadata metadata = source.metadata;
  std::string table;
  std::vector<TensorSpec> specs;
  int64_t data = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    TensorSpec spec = source.tensors[i].spec;
    const TypeOption* largest = &tensors[i].front();
    for (const TypeOption& option : tensors[i]) {
      if (NameOf(option.type).size() > NameOf(largest->type).size()) largest = &option;
    }
    if (IsQuantisable(spec)) table += ChoiceLine(spec.name, *largest);
    spec.type = largest->type;
    data += largest->bytes;
    specs.push_back(std::move(spec));
  }
  MOXIE_TRY_ASSIGN(const uint64_t alignment, GgufAlignment(metadata));
  metadata.values[std::string(kChoicesKey)] = table;
  MOXIE_TRY_ASSIGN(const uint64_t file, GgufFileBytes(metadata, specs));
  constexpr int64_t kOtherKeys = 4096;  // imatrix, file type: short texts
  return options.size_bytes - (static_cast<int64_t>(file) - data) - kOtherKeys -
         static_cast<int64_t>(alignment * specs.size());
}

int64_t SmallestBytes(std::span<const std::vector<TypeOption>> tensors) {
  int64_t bytes = 0;
  for (const auto& options : tensors)
    bytes += std::ranges::min_element(options, {}, &TypeOption::bytes)->bytes;
  return bytes;
}

/// Leaves only the type that a rule asks for.
void ApplyRules(const QuantizeSource& source, std::span<const std::optional<DType>> ruled,
                std::vector<std::vector<TypeOption>>& tensors) {
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (!ruled[i]) continue;
    const auto found = std::ranges::find(tensors[i], *ruled[i], &TypeOption::type);
    if (found != tensors[i].end()) {
      tensors[i] = {*found};
      continue;
    }
    int64_t elements = 1;
    for (const int64_t d : source.tensors[i].spec.shape) elements *= d;
    tensors[i] = {{*ruled[i], BytesOf(*ruled[i], elements).value(), 0}};
  }
}

}  // namespace

std::string ChoiceLine(std::string_view tensor, const TypeOption& option) {
  char number[16];
  std::snprintf(number, sizeof number, "%.1e", std::min(option.divergence, 1e9));
  return std::string(tensor) + " " + std::string(NameOf(option.type)) + " " + number + "\n";
}

Result<SizeChoice> ChooseForSize(const std::string& in, const QuantizeSource& source,
                                 std::span<const std::optional<DType>> ruled,
                                 const QuantizeOptions& options, Importance& importance,
                                 const std::function<bool(double share)>& progress) {
  MOXIE_TRY_ASSIGN(const std::unique_ptr<Model> model, OpenForProbing(in, options.threads));
  double begun = 0;
  if (importance.entries.empty()) {
    const auto tokens = std::ssize(model->tokenizer().Encode(options.text, {}));
    const ImportanceOptions wanted{.window = std::clamp<int64_t>(tokens, 1, kWindow),
                                   .chunks = kImportanceWindows,
                                   .dataset = options.text_name};
    MOXIE_TRY_ASSIGN(importance, CollectImportance(*model, options.text, wanted, [&](double share) {
                       return !progress || progress(kImportanceShare * share);
                     }));
    begun = kImportanceShare;
  }
  MOXIE_TRY_ASSIGN(auto tensors, MeasureTypeCosts(source.tensors, *model, options.text, importance,
                                                  options.probes, [&](double share) {
                                                    return !progress ||
                                                           progress(begun + (1 - begun) * share);
                                                  }));
  ApplyRules(source, ruled, tensors);
  MOXIE_TRY_ASSIGN(const int64_t budget, Budget(source, options, tensors));
  const std::vector<size_t> chosen = ChooseWithin(tensors, budget);
  if (chosen.empty())
    return Error{ErrorCode::kInvalidInput,
                 "the size leaves " + std::to_string(std::max<int64_t>(0, budget)) +
                     " bytes for tensors, but in the smallest types they take " +
                     std::to_string(SmallestBytes(tensors))};
  SizeChoice choice;
  for (size_t i = 0; i < chosen.size(); ++i) choice.options.push_back(tensors[i][chosen[i]]);
  ShareRerouting(choice.options);
  return choice;
}

}  // namespace moxie
