#include "convert/probe.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <memory>
#include <numeric>
#include <optional>
#include <utility>

#include "core/thread_pool.h"
#include "engine/divergence.h"
#include "engine/model_parts.h"
#include "kernels/kernel_set.h"
#include "model/names.h"
#include "quant/dequantize.h"
#include "quant/quantize.h"

namespace moxie {
namespace {

constexpr size_t kPieces = 4;
constexpr size_t kPieceTokens = 128;
constexpr double kUsualPiece = 3;  // A piece diverges at most so many times the median piece.

/// Collects the targets under a GGUF's names.
class TargetFinder {
 public:
  explicit TargetFinder(const Model::Parts& parts) : config_(parts.config), w_(parts.weights) {}

  std::vector<ProbeTarget> Find() {
    const auto layers = std::ssize(w_.layers);
    Add(std::string(names_.embedding[0]), {&w_.embedding}, -1);
    if (!config_.tied_embeddings) Add(std::string(names_.output[0]), {&w_.output}, layers - 1);
    for (layer_ = 0; layer_ < layers; ++layer_) AddLayer(w_.layers[static_cast<size_t>(layer_)]);
    return std::move(found_);
  }

 private:
  using Matrices = std::vector<const WeightMatrix*>;

  ProbeTarget* Add(const std::string& name, Matrices matrices, int64_t layer) {
    if (matrices.empty() || std::ranges::any_of(matrices, &WeightMatrix::empty)) return nullptr;
    ProbeTarget target;
    target.names = {name + ".weight"};
    target.matrices = std::move(matrices);
    target.layer = layer;
    return &found_.emplace_back(std::move(target));
  }

  ProbeTarget* Add(const Spellings& spellings, Matrices matrices) {
    return Add(Full(spellings), std::move(matrices), layer_);
  }

  std::string Full(const Spellings& spellings) const {
    return WithNumber(names_.layer_prefix, layer_) + std::string(spellings[0]);
  }

  void AddLayer(const LayerWeights& layer) {
    const AttentionWeights& a = layer.attention;
    if (a.kv_a.empty()) {
      Add(names_.q, {&a.q});
      Add(names_.k, {&a.k});
      Add(names_.v, {&a.v});
      Add(names_.qkv, {&a.q, &a.k, &a.v});
    } else {
      Add(a.q_a.empty() ? names_.q : names_.q_b, {&a.q});
      Add(names_.q_a, {&a.q_a});
      Add(names_.kv_a, {&a.kv_a});
      ProbeTarget* const latent = Add(names_.kv_b, {&a.kv_b});
      const std::string prefix = WithNumber(names_.layer_prefix, layer_);
      if (latent != nullptr)  // Newer files have it in two.
        for (const char* name : {"attn_k_b.weight", "attn_v_b.weight"})
          latent->names.push_back(prefix + name);
    }
    Add(names_.attention_output, {&a.output});
    AddFeedForward(layer.dense, names_.gate, names_.up, names_.down);
    AddFeedForward(layer.shared, names_.shared_gate, names_.shared_up, names_.shared_down);
    if (!layer.experts.empty()) AddExperts(layer.experts);
  }

  void AddFeedForward(const FeedForwardWeights& ffn, const Spellings& gate, const Spellings& up,
                      const Spellings& down) {
    Add(gate, {&ffn.gate.matrix});
    Add(up, {&ffn.up.matrix});
    Add(down, {&ffn.down.matrix});
  }

  void AddExperts(const std::vector<FeedForwardWeights>& experts) {
    Matrices gate, up, down, both;
    for (const FeedForwardWeights& expert : experts) {
      gate.push_back(&expert.gate.matrix);
      up.push_back(&expert.up.matrix);
      down.push_back(&expert.down.matrix);
    }
    both = gate;
    both.insert(both.end(), up.begin(), up.end());
    const auto add = [&](const Spellings& stacked, const Spellings& separate, Matrices matrices) {
      ProbeTarget* const target = Add(stacked, std::move(matrices));
      if (target == nullptr) return;
      target->experts = true;
      if (separate[0].empty()) return;
      for (size_t e = 0; e < experts.size(); ++e)
        target->names.push_back(WithNumber(Full(separate), static_cast<int64_t>(e)) + ".weight");
    };
    add(names_.experts_gate, names_.expert_gate, gate);
    add(names_.experts_up, names_.expert_up, up);
    add(names_.experts_gate_up, {}, both);
    add(names_.experts_down, names_.expert_down, down);
  }

  const ModelConfig& config_;
  const ModelWeights& w_;
  const TensorNames& names_ = NamesOf(FileLayout::kGguf);
  int64_t layer_ = 0;
  std::vector<ProbeTarget> found_;
};

/// A matrix in memory that is given other weights for a while.
class Disturbance {
 public:
  /// `importance` [cols] or null.
  Disturbance(const WeightMatrix& matrix, DType type, const float* importance, ThreadPool& threads,
              const KernelSet& kernels)
      : matrix_(matrix),
        row_bytes_(static_cast<size_t>(BytesOf(matrix.type, matrix.cols).value())) {
    kept_.resize(static_cast<size_t>(matrix.rows) * row_bytes_);
    const auto cols = static_cast<size_t>(matrix.cols);
    const auto coded = static_cast<size_t>(BytesOf(type, matrix.cols).value());
    std::vector<float> rows(static_cast<size_t>(threads.threads()) * cols);
    std::vector<std::byte> codes(static_cast<size_t>(threads.threads()) * coded);
    threads.ParallelFor(matrix.rows, [&](int64_t r, int worker) {
      float* const row = rows.data() + static_cast<size_t>(worker) * cols;
      std::byte* const code = codes.data() + static_cast<size_t>(worker) * coded;
      std::memcpy(Kept(r), Row(r), row_bytes_);
      Dequantize(matrix.type, Row(r), matrix.cols, row);
      kernels.quantize(type, row, matrix.cols, importance, code);
      Dequantize(type, code, matrix.cols, row);
      kernels.quantize(matrix.type, row, matrix.cols, importance, Row(r));
    });
  }
  ~Disturbance() {
    for (int64_t r = 0; r < matrix_.rows; ++r) std::memcpy(Row(r), Kept(r), row_bytes_);
  }
  Disturbance(const Disturbance&) = delete;
  Disturbance& operator=(const Disturbance&) = delete;

 private:
  // Weights are read-only to all others, but the model's memory is not.
  std::byte* Row(int64_t r) const { return const_cast<std::byte*>(matrix_.row(r)); }
  std::byte* Kept(int64_t r) { return kept_.data() + static_cast<size_t>(r) * row_bytes_; }

  const WeightMatrix& matrix_;
  const size_t row_bytes_;
  std::vector<std::byte> kept_;
};

/// The mean without those far above the median. In a mixture the first token of a piece, to which
/// all others attend, may happen to choose another expert, and all of the piece diverges: by chance
/// and alike for any error that makes it, which says nothing of the matrix.
double MeanOfUsual(std::vector<double> pieces) {
  std::ranges::sort(pieces);
  const double median = (pieces[(pieces.size() - 1) / 2] + pieces[pieces.size() / 2]) / 2;
  const auto end = std::ranges::upper_bound(pieces, kUsualPiece * median);
  return std::accumulate(pieces.begin(), end, 0.0) / static_cast<double>(end - pieces.begin());
}

}  // namespace

std::vector<ProbeTarget> ProbeTargets(const Model& model) {
  return TargetFinder(model.parts()).Find();
}

Result<std::unique_ptr<Prober>> Prober::Create(Model& model, std::string_view text) {
  if (model.streams_experts())
    return Error{ErrorCode::kOverBudget,
                 "choosing types for a size needs all of the model in memory, but its experts do "
                 "not fit and would be streamed from disk"};
  std::unique_ptr<Prober> prober(new Prober(model));
  MOXIE_TRY(prober->ReadText(text));
  MOXIE_TRY(prober->RunBase());
  return prober;
}

Result<void> Prober::ReadText(std::string_view text) {
  const Tokenizer& tokenizer = model_.tokenizer();
  const auto ids = tokenizer.Encode(text, {.add_special = false, .parse_special = false});
  if (ids.size() < 2)
    return Error{ErrorCode::kInvalidInput,
                 "the text has " + std::to_string(ids.size()) + " tokens, but needs at least two"};
  const size_t pieces = std::clamp<size_t>(ids.size() / kPieceTokens, 1, kPieces);
  const size_t length = std::min(ids.size(), kPieceTokens);
  for (size_t p = 0; p < pieces; ++p) {
    const auto first = ids.begin() + static_cast<std::ptrdiff_t>(p * (ids.size() / pieces));
    auto& piece = pieces_.emplace_back(first, first + static_cast<std::ptrdiff_t>(length));
    if (tokenizer.adds_bos() && tokenizer.bos()) piece[0] = *tokenizer.bos();
  }
  return {};
}

Result<void> Prober::Run(std::span<float> logits, const ForwardObservers& observers,
                         const ForwardStart& start) {
  Model::Parts& parts = model_.parts();
  std::vector<SequenceChunk> chunks;
  Result<void> done;
  for (const auto& piece : pieces_) {
    const Result<SequenceId> sequence = parts.cache->CreateSequence();
    if (!sequence) {
      done = sequence.error();
      break;
    }
    chunks.push_back({*sequence, piece, LogitRows::kAll});
  }
  if (done) done = parts.decoder->Forward(chunks, *parts.cache, logits, observers, start);
  for (const SequenceChunk& chunk : chunks) parts.cache->FreeSequence(chunk.sequence);
  return done;
}

Result<void> Prober::RunBase() {
  const Model::Parts& parts = model_.parts();
  const auto vocab = static_cast<size_t>(parts.config.vocab_size);
  size_t tokens = 0;
  for (const auto& piece : pieces_) tokens += piece.size();
  base_.resize(tokens * vocab);
  logits_.resize(base_.size());
  hidden_.resize(parts.weights.layers.size());
  choices_.assign(hidden_.size(),
                  std::vector<Choices>(static_cast<size_t>(parts.config.router.experts)));
  MOXIE_TRY(Run(base_, {.routing = this, .hidden = this}, {}));
  for (size_t t = 0; t < tokens; ++t)
    base_logs_.push_back(LogSumOfExponentials(std::span(base_).subspan(t * vocab, vocab)));
  return {};
}

void Prober::OnHidden(int64_t index, std::span<const float> hidden) {
  if (index < std::ssize(hidden_))
    hidden_[static_cast<size_t>(index)].assign(hidden.begin(), hidden.end());
}

void Prober::OnRouting(int64_t layer, std::span<const float> /*logits*/,
                       std::span<const int32_t> ids, std::span<const float> weights) {
  std::vector<Choices>& choices = choices_[static_cast<size_t>(layer)];
  for (size_t i = 0; i < ids.size(); ++i) {
    Choices& expert = choices[static_cast<size_t>(ids[i])];
    expert.count += 1;
    expert.squares += static_cast<double>(weights[i] * weights[i]);
  }
}

std::vector<double> Prober::ExpertUse(int64_t layer, std::span<const float> counts) const {
  const std::vector<Choices>& choices = choices_[static_cast<size_t>(layer)];
  const bool longer = counts.size() == choices.size();
  std::vector<double> times;
  Choices all;
  for (size_t e = 0; e < choices.size(); ++e) {
    times.push_back(1 + (longer ? double{counts[e]} : choices[e].count));
    all.count += choices[e].count;
    all.squares += choices[e].squares;
  }
  const double usual = all.count > 0 ? all.squares / all.count : 1;
  const double sum = std::accumulate(times.begin(), times.end(), 0.0);
  std::vector<double> use;
  for (size_t e = 0; e < choices.size(); ++e)
    use.push_back(times[e] / sum * (choices[e].squares + usual) / (choices[e].count + 1));
  return use;
}

double Prober::DivergenceFromBase() {
  const auto vocab = static_cast<size_t>(model_.vocab_size());
  std::vector<double> each(base_logs_.size());
  model_.parts().threads->ParallelFor(std::ssize(each), [&](int64_t t, int) {
    const auto row = static_cast<size_t>(t);
    each[row] = KullbackLeibler(std::span(base_).subspan(row * vocab, vocab), base_logs_[row],
                                std::span(logits_).subspan(row * vocab, vocab));
  });
  std::vector<double> pieces;
  for (auto first = each.cbegin(); const auto& piece : pieces_) {
    const auto end = first + std::ssize(piece);
    pieces.push_back(std::accumulate(first, end, 0.0) / static_cast<double>(piece.size()));
    first = end;
  }
  return MeanOfUsual(std::move(pieces));
}

Result<double> Prober::Measure(std::span<const ProbeTarget> targets, DType type,
                               const Importance& importance) {
  std::vector<std::unique_ptr<Disturbance>> disturbances;
  int64_t layer = std::numeric_limits<int64_t>::max();
  for (const ProbeTarget& target : targets) {
    const WeightMatrix& first = *target.matrices.front();
    if (!CanQuantize(first.type))
      return Error{ErrorCode::kUnsupported, target.names.front() + " has type " +
                                                std::string(NameOf(first.type)) +
                                                ", which cannot be written, so not be probed"};
    const int64_t experts = target.experts ? model_.parts().config.router.experts : 1;
    MOXIE_TRY_ASSIGN(const auto weights,
                     importance.Weights(target.names.front(), experts, first.cols));
    for (size_t m = 0; m < target.matrices.size(); ++m) {
      const int64_t expert = static_cast<int64_t>(m) % experts;
      disturbances.push_back(std::make_unique<Disturbance>(
          *target.matrices[m], type, weights ? weights->data() + expert * first.cols : nullptr,
          *model_.parts().threads, *model_.parts().kernels));
    }
    layer = std::min(layer, target.layer);
  }
  ForwardStart start;
  if (layer >= 0) start = {layer, hidden_[static_cast<size_t>(layer)]};
  MOXIE_TRY(Run(logits_, {}, start));
  return DivergenceFromBase();
}

}  // namespace moxie
