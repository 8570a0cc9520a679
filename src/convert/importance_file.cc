#include "convert/importance_file.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "core/printable.h"
#include "formats/gguf.h"
#include "formats/tensor_files.h"
#include "formats/tensor_writer.h"
#include "quant/dequantize.h"

namespace moxie {
namespace {

constexpr std::string_view kSums = ".in_sum2";
constexpr std::string_view kCounts = ".counts";

Error Refuse(std::string_view file, const std::string& what) {
  return {ErrorCode::kInvalidInput, std::string(file) + ": " + what};
}

bool AllCount(std::span<const float> numbers) {
  return std::ranges::all_of(numbers, [](float n) { return n >= 0 && std::isfinite(n); });
}

Result<void> CheckEntry(std::string_view file, const std::string& name,
                        const Importance::Entry& entry) {
  if (entry.counts.empty() || entry.sums.size() % entry.counts.size() != 0)
    return Refuse(file, Printable(name) + " has " + std::to_string(entry.sums.size()) +
                            " sums, but they must be a multiple of its counts");
  if (!AllCount(entry.sums) || !AllCount(entry.counts))
    return Refuse(file, Printable(name) + " has numbers that are not 0 or more");
  return {};
}

/// Reads little-endian words and text off the bytes, as long as there are any.
class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) : bytes_(bytes) {}

  std::optional<int32_t> Word() {
    int32_t word = 0;
    if (bytes_.size() < sizeof word) return std::nullopt;
    std::memcpy(&word, bytes_.data(), sizeof word);
    bytes_ = bytes_.subspan(sizeof word);
    return word;
  }
  /// `count` elements of `width` bytes, or nothing.
  std::optional<std::span<const std::byte>> Take(std::optional<int32_t> count, size_t width) {
    if (!count || *count < 0 || static_cast<size_t>(*count) > bytes_.size() / width)
      return std::nullopt;
    const auto taken = bytes_.first(static_cast<size_t>(*count) * width);
    bytes_ = bytes_.subspan(taken.size());
    return taken;
  }

 private:
  std::span<const std::byte> bytes_;
};

std::string TextOf(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::vector<float> FloatsOf(const TensorFiles& files, const TensorInfo& tensor) {
  std::vector<float> values(static_cast<size_t>(tensor.elements()));
  Dequantize(tensor.type, files.Bytes(tensor).data(), tensor.elements(), values.data());
  return values;
}

Result<Importance> ReadGguf(const std::filesystem::path& path) {
  const std::string file = path.filename().string();
  GgufMetadata metadata;
  MOXIE_TRY_ASSIGN(const TensorFiles files, OpenGguf(path, &metadata));
  Importance importance;
  MOXIE_TRY_ASSIGN(const auto datasets, metadata.Texts("imatrix.datasets"));
  MOXIE_TRY_ASSIGN(const auto chunks, metadata.Integer("imatrix.chunk_count"));
  MOXIE_TRY_ASSIGN(const auto chunk_tokens, metadata.Integer("imatrix.chunk_size"));
  importance.datasets = datasets.value_or(std::vector<std::string>());
  importance.chunks = chunks.value_or(0);
  importance.chunk_tokens = chunk_tokens.value_or(0);
  for (const TensorInfo& tensor : files.tensors()) {
    if (!tensor.name.ends_with(kSums)) continue;
    const std::string name = tensor.name.substr(0, tensor.name.size() - kSums.size());
    const TensorInfo* counts = files.Find(name + std::string(kCounts));
    if (counts == nullptr || counts->type != DType::kF32 || tensor.type != DType::kF32)
      return Refuse(file, Printable(name) + " lacks its counts, or they are not f32");
    Importance::Entry entry{FloatsOf(files, tensor), FloatsOf(files, *counts)};
    MOXIE_TRY(CheckEntry(file, name, entry));
    importance.entries.emplace(name, std::move(entry));
  }
  if (importance.entries.empty())
    return Refuse(file, "has no tensors named *.in_sum2, so it is no importance matrix");
  return importance;
}

/// "blk.0.ffn_up_exps.weight" and 3 of "blk.0.ffn_up.3.weight".
std::optional<std::pair<std::string, int64_t>> StackedName(std::string_view name) {
  constexpr std::string_view kEnd = ".weight";
  if (!name.ends_with(kEnd)) return std::nullopt;
  name.remove_suffix(kEnd.size());
  const size_t dot = name.rfind('.');
  const std::string_view digits = dot == name.npos ? "" : name.substr(dot + 1);
  if (digits.empty() || digits.size() > 6 ||
      !std::ranges::all_of(digits, [](char c) { return c >= '0' && c <= '9'; }))
    return std::nullopt;
  return std::pair(std::string(name.substr(0, dot)) + "_exps" + std::string(kEnd),
                   int64_t{std::stoi(std::string(digits))});
}

/// Means of each matrix; of one without inputs the mean over all others' inputs.
std::vector<float> MeansOf(const Importance::Entry& entry) {
  const size_t matrices = entry.counts.size();
  const size_t columns = entry.sums.size() / matrices;
  std::vector<double> sums(columns);
  double count = 0;
  for (size_t m = 0; m < matrices; ++m) {
    count += static_cast<double>(entry.counts[m]);
    for (size_t c = 0; c < columns; ++c)
      sums[c] += static_cast<double>(entry.sums[m * columns + c]);
  }
  std::vector<float> means(entry.sums.size());
  for (size_t m = 0; m < matrices; ++m) {
    const double own = static_cast<double>(entry.counts[m]);
    for (size_t c = 0; c < columns; ++c) {
      const double sum = own > 0 ? static_cast<double>(entry.sums[m * columns + c]) : sums[c];
      const double inputs = own > 0 ? own : count;
      means[m * columns + c] = inputs > 0 ? static_cast<float>(sum / inputs) : 1.0f;
    }
  }
  return means;
}

}  // namespace

Result<std::optional<std::vector<float>>> Importance::Weights(std::string_view tensor,
                                                              int64_t matrices,
                                                              int64_t columns) const {
  auto found = entries.find(tensor);
  int64_t expert = -1;
  if (found == entries.end()) {
    const auto stacked = StackedName(tensor);
    if (!stacked) return std::optional<std::vector<float>>();
    found = entries.find(stacked->first);
    expert = stacked->second;
    if (found == entries.end()) return std::optional<std::vector<float>>();
  }
  const Entry& entry = found->second;
  const int64_t own_columns = std::ssize(entry.sums) / std::ssize(entry.counts);
  // The older form has one count for all experts together.
  const bool one_count = entry.counts.size() == 1 && own_columns == matrices * columns;
  const bool fits = expert < 0 ? own_columns == columns && std::ssize(entry.counts) == matrices
                               : own_columns == columns && expert < std::ssize(entry.counts);
  if (!fits && !one_count)
    return Refuse("the importance", "of " + Printable(tensor) + " has " +
                                        std::to_string(entry.sums.size()) + " numbers, but " +
                                        std::to_string(matrices * columns) + " were expected");
  std::vector<float> means = MeansOf(entry);
  if (expert >= 0) means = {means.data() + expert * columns, means.data() + (expert + 1) * columns};
  return std::optional(std::move(means));
}

Result<Importance> ParseImportanceDat(std::span<const std::byte> bytes, std::string_view name) {
  Reader reader(bytes);
  const auto entries = reader.Word();
  if (!entries || *entries < 1) return Refuse(name, "is no importance matrix");
  Importance importance;
  for (int32_t i = 0; i < *entries; ++i) {
    const auto text = reader.Take(reader.Word(), 1);
    const auto calls = reader.Word();
    const auto values = text && calls ? reader.Take(reader.Word(), sizeof(float)) : std::nullopt;
    if (!values || values->empty() || *calls < 0)
      return Refuse(name,
                    "ends within entry " + std::to_string(i) + " of " + std::to_string(*entries));
    Importance::Entry entry;
    entry.sums.resize(values->size() / sizeof(float));
    std::memcpy(entry.sums.data(), values->data(), values->size());
    entry.counts = {static_cast<float>(std::max(1, *calls))};
    const std::string tensor = TextOf(*text);
    MOXIE_TRY(CheckEntry(name, tensor, entry));
    importance.entries.emplace(tensor, std::move(entry));
  }
  importance.chunks = std::max(0, reader.Word().value_or(0));
  const auto dataset = reader.Take(reader.Word(), 1);
  if (dataset && !dataset->empty()) importance.datasets = {TextOf(*dataset)};
  return importance;
}

Result<Importance> ReadImportance(const std::filesystem::path& path) {
  MOXIE_TRY_ASSIGN(const MappedFile file, MappedFile::Open(path));
  const auto bytes = file.bytes();
  if (bytes.size() >= 4 && TextOf(bytes.first(4)) == "GGUF") return ReadGguf(path);
  return ParseImportanceDat(bytes, path.filename().string());
}

Result<void> WriteImportance(const Importance& importance, const std::filesystem::path& path) {
  GgufMetadata metadata;
  metadata.values["general.type"] = std::string("imatrix");
  metadata.values["imatrix.datasets"] = GgufArray(importance.datasets);
  metadata.values["imatrix.chunk_count"] = static_cast<uint32_t>(importance.chunks);
  metadata.values["imatrix.chunk_size"] = static_cast<uint32_t>(importance.chunk_tokens);
  std::vector<TensorSpec> specs;
  for (const auto& [name, entry] : importance.entries) {
    const int64_t matrices = std::ssize(entry.counts);
    specs.push_back(
        {name + std::string(kSums), DType::kF32, {matrices, std::ssize(entry.sums) / matrices}});
    specs.push_back({name + std::string(kCounts), DType::kF32, {matrices, 1}});
  }
  MOXIE_TRY_ASSIGN(TensorWriter writer, TensorWriter::CreateGguf(path, metadata, specs));
  for (const auto& [name, entry] : importance.entries) {
    MOXIE_TRY(writer.Write(std::as_bytes(std::span(entry.sums))));
    MOXIE_TRY(writer.Write(std::as_bytes(std::span(entry.counts))));
  }
  return writer.Finish();
}

}  // namespace moxie
