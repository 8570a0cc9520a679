#include "convert/importance.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "engine/model_parts.h"
#include "forward/input_observer.h"
#include "model/names.h"

namespace moxie {
namespace {

/// Adds up the squares of inputs by the names that a GGUF gives their matrices.
class Collector final : public InputObserver {
 public:
  explicit Collector(const ModelConfig& config) : config_(config) {}

  void OnInput(const MatrixPlace& place, std::span<const float> row) override {
    Sums& sums = SumsOf(place, row.size());
    const size_t matrix = place.expert >= 0 ? static_cast<size_t>(place.expert) : 0;
    double* const to = sums.squares.data() + matrix * row.size();
    for (size_t c = 0; c < row.size(); ++c)
      to[c] += static_cast<double>(row[c]) * static_cast<double>(row[c]);
    ++sums.counts[matrix];
  }

  Importance Take() const {
    Importance importance;
    for (const auto& [key, sums] : sums_) {
      Importance::Entry entry;
      entry.sums.assign(sums.squares.begin(), sums.squares.end());
      entry.counts.assign(sums.counts.begin(), sums.counts.end());
      for (const std::string& name : NamesFor(sums.place)) importance.entries[name] = entry;
    }
    return importance;
  }

 private:
  struct Sums {
    MatrixPlace place;
    std::vector<double> squares;  ///< [matrices, columns]
    std::vector<int64_t> counts;  ///< [matrices]
  };
  struct Key {
    int64_t layer;
    MatrixRole role;
    int32_t kind;  ///< dense or shared, or 0 for all experts
    auto operator<=>(const Key&) const = default;
  };

  Sums& SumsOf(const MatrixPlace& place, size_t columns) {
    Sums& sums = sums_[{place.layer, place.role, std::min(place.expert, 0)}];
    if (!sums.counts.empty()) return sums;
    const auto matrices = static_cast<size_t>(place.expert >= 0 ? config_.router.experts : 1);
    sums.place = place;
    sums.counts.resize(matrices);
    sums.squares.resize(matrices * columns);
    return sums;
  }

  std::vector<std::string> NamesFor(const MatrixPlace& place) const {
    const TensorNames& names = NamesOf(FileLayout::kGguf);
    const bool latent = config_.attention.latent.kv_rank > 0;
    const bool expert = place.expert >= 0, shared = place.expert == kSharedExpert;
    std::vector<std::string_view> found;
    switch (place.role) {
      case MatrixRole::kAttention:
        if (latent) {
          found = {config_.attention.latent.q_rank > 0 ? names.q_a[0] : names.q[0], names.kv_a[0]};
        } else {
          found = {names.q[0], names.k[0], names.v[0]};
        }
        break;
      case MatrixRole::kQueries:
        found = {names.q_b[0]};
        break;
      case MatrixRole::kAttentionOutput:
        found = {names.attention_output[0]};
        break;
      case MatrixRole::kGateUp:
        if (expert) {
          found = {names.experts_gate[0], names.experts_up[0]};
        } else if (shared) {
          found = {names.shared_gate[0], names.shared_up[0]};
        } else {
          found = {names.gate[0], names.up[0]};
        }
        break;
      case MatrixRole::kDown:
        found = {expert ? names.experts_down[0] : shared ? names.shared_down[0] : names.down[0]};
        break;
    }
    std::vector<std::string> full;
    for (const std::string_view name : found)
      full.push_back(WithNumber(names.layer_prefix, place.layer) + std::string(name) + ".weight");
    return full;
  }

  const ModelConfig& config_;
  std::map<Key, Sums> sums_;
};

Result<void> RunWindow(Model::Parts& parts, std::span<const TokenId> window, Collector& collector) {
  MOXIE_TRY_ASSIGN(const SequenceId sequence, parts.cache->CreateSequence());
  const auto step = static_cast<size_t>(parts.options.batch_tokens);
  Result<void> done;
  while (!window.empty() && done) {
    const SequenceChunk chunk{sequence, window.first(std::min(step, window.size())),
                              LogitRows::kNone};
    done = parts.decoder->Forward({&chunk, 1}, *parts.cache, {}, {.inputs = &collector});
    window = window.subspan(chunk.tokens.size());
  }
  parts.cache->FreeSequence(sequence);
  return done;
}

ImportanceReport Report(const Importance& importance) {
  ImportanceReport report;
  report.windows = importance.chunks;
  for (const auto& [name, entry] : importance.entries) {
    report.matrices += std::ssize(entry.counts);
    for (size_t m = 0; m < entry.counts.size(); ++m) {
      if (entry.counts[m] == 0) report.unreached.push_back(name + " " + std::to_string(m));
    }
  }
  return report;
}

}  // namespace

Result<Importance> CollectImportance(Model& model, std::string_view text,
                                     const ImportanceOptions& options,
                                     const std::function<bool(double share)>& progress) {
  const Tokenizer& tokenizer = model.tokenizer();
  std::vector<TokenId> ids = tokenizer.Encode(text, {.add_special = true, .parse_special = false});
  const int64_t window = options.window;
  if (window < 1 || window > model.context() || std::ssize(ids) < window)
    return Error{ErrorCode::kInvalidInput, "the text has " + std::to_string(ids.size()) +
                                               " tokens and the context " +
                                               std::to_string(model.context()) +
                                               ", but a window takes " + std::to_string(window)};
  int64_t windows = std::ssize(ids) / window;
  if (options.chunks > 0) windows = std::min(windows, options.chunks);
  Collector collector(model.parts().config);
  for (int64_t i = 0; i < windows; ++i) {
    const auto tokens =
        std::span(ids).subspan(static_cast<size_t>(i * window), static_cast<size_t>(window));
    if (tokenizer.adds_bos() && tokenizer.bos()) tokens[0] = *tokenizer.bos();
    MOXIE_TRY(RunWindow(model.parts(), tokens, collector));
    if (progress && !progress(static_cast<double>(i + 1) / static_cast<double>(windows)))
      return Error{ErrorCode::kCancelled, "cancelled"};
  }
  Importance importance = collector.Take();
  importance.chunks = windows;
  importance.chunk_tokens = window;
  importance.datasets = {options.dataset};
  return importance;
}

Result<ImportanceReport> MeasureImportance(Model& model, std::string_view text,
                                           const std::string& out, const ImportanceOptions& options,
                                           const std::function<bool(double share)>& progress) {
  MOXIE_TRY_ASSIGN(const Importance importance, CollectImportance(model, text, options, progress));
  MOXIE_TRY(WriteImportance(importance, out));
  return Report(importance);
}

}  // namespace moxie
