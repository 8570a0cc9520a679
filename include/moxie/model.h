#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "moxie/result.h"
#include "moxie/tokenizer.h"

namespace moxie {

/// A LoRA adapter: a PEFT folder, applied beside the base model with its own scale times this one.
struct AdapterOptions {
  std::string path;
  double scale = 1.0;
};

/// How far loading is.
struct LoadProgress {
  int64_t done_bytes = 0;
  int64_t total_bytes = 0;
  double seconds = 0;  ///< since the first read began
};

/// How a model is run. The defaults suit one conversation on the whole machine. None of these
/// but kernels, kv_type and the adapters changes a result, by as much as a bit; what is computed
/// together (batch_tokens, what else runs, prompts that begin alike) does so, within the rounding
/// of bfloat16, with the amx kernels alone, unless batch_invariant is set.
struct ModelOptions {
  int threads = 0;               ///< 0: every CPU this process may use
  int64_t context = 0;           ///< tokens of a sequence, prompt and answer; 0: the trained
                                 ///< context, at most kDefaultContext
  int64_t memory_bytes = 0;      ///< what the process may use; 0: what the machine and its limits
                                 ///< leave, less a reserve (AutomaticMemoryBytes)
  std::string kv_type = "f32";   ///< keys and values: "f32", "f16" or "q8_0"
  std::string kernels = "auto";  ///< "auto" or a kernel set's name
  int parallel = 1;              ///< sequences that run at once, each with `context` tokens
  int64_t batch_tokens = 512;    ///< tokens of one forward pass, over all sequences
  /// Results that do not depend by a bit on what is computed together. Costs nothing but with the
  /// amx kernels, which then read prompts at the avx512 kernels' speed.
  bool batch_invariant = false;
  /// Lays weights out anew in memory as the kernels read them fastest, which takes a moment while
  /// loading; experts that are streamed from disk stay as files have them.
  bool pack_weights = true;
  std::vector<AdapterOptions> adapters;
  /// Called while weights are read, from the thread that opens; false gives up (kCancelled).
  std::function<bool(const LoadProgress&)> on_load;
};

inline constexpr int64_t kDefaultContext = 4096;

/// One tensor of a model's files. The shape is outermost first.
struct TensorDescription {
  std::string name;
  std::string type;  ///< "f32", "q4_k", ...
  std::vector<int64_t> shape;
  int64_t bytes = 0;
};

/// What a model is, from its files alone.
struct ModelDescription {
  std::string path;
  std::string layout;  ///< "gguf", "huggingface" or "consolidated"
  std::string family;  ///< "mixtral", "llama", ...
  std::string name;
  int64_t parameters = 0;         ///< all of them
  int64_t active_parameters = 0;  ///< those that one token touches
  int64_t file_bytes = 0;         ///< of all tensors
  int64_t dim = 0;
  int64_t layers = 0;
  int64_t mixture_layers = 0;
  std::vector<int64_t> mixture_layer_indices;  ///< among all layers
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  int64_t ffn_dim = 0;         ///< of dense layers; 0 where there are none
  int64_t expert_ffn_dim = 0;  ///< of one expert; 0 for dense models
  int64_t experts = 0;
  int64_t experts_per_token = 0;
  int64_t shared_ffn_dim = 0;
  int64_t vocab_size = 0;
  int64_t context_length = 0;  ///< trained
  int64_t window = 0;          ///< largest sliding window; 0: none
  int64_t window_layers = 0;   ///< layers with a sliding window
  double rope_base = 0;
  std::string rope_scaling;  ///< "none", "linear", "llama3" or "yarn"
  bool tied_embeddings = false;
  std::string tokenizer;  ///< "llama", "gpt2 (llama-bpe)", "tokenizer.json", ...
  int64_t tokenizer_vocab = 0;
  TokenId bos = -1;
  TokenId eos = -1;
  bool adds_bos = false;
  std::vector<TokenId> stop_tokens;
  std::string chat_template;  ///< its source, or empty
  std::vector<TensorDescription> tensors;
};

/// Describes the MODEL at `path`. Every check that opening would make has been made, but nothing is
/// computed.
///
/// Errors: kNotFound, kIo, kInvalidInput, kUnsupported, each with a sentence that starts with the
/// file's name.
Result<ModelDescription> DescribeModel(const std::string& path);

/// How often experts were found in memory, where a model streams them from disk.
struct ExpertTraffic {
  int64_t hits = 0;        ///< experts wanted by a layer and present
  int64_t misses = 0;      ///< wanted and read
  int64_t bytes_read = 0;  ///< from disk
  double wait_s = 0;       ///< that computing stood still for reading

  ExpertTraffic& operator+=(const ExpertTraffic& more) {
    hits += more.hits;
    misses += more.misses;
    bytes_read += more.bytes_read;
    wait_s += more.wait_s;
    return *this;
  }
  /// What came after `before`.
  ExpertTraffic operator-(const ExpertTraffic& before) const {
    return {hits - before.hits, misses - before.misses, bytes_read - before.bytes_read,
            wait_s - before.wait_s};
  }
};

/// What a run occupies at its peak, in bytes, with every sequence at its full context.
struct MemoryNeed {
  int64_t weights = 0;      ///< all but experts, adapters included
  int64_t experts = 0;      ///< those in memory at once
  int64_t kv_cache = 0;     ///< keys and values
  int64_t activations = 0;  ///< buffers of the forward pass and of sampling
  int64_t io_buffers = 0;   ///< between disk and experts
  int64_t tokenizer = 0;    ///< vocabulary, chat template and metadata
  int64_t program = 0;      ///< code, libraries, stacks, the allocator's own
  int64_t total() const {
    return weights + experts + kv_cache + activations + io_buffers + tokenizer + program;
  }
};

class ModelHead;

/// A model ready to run: files, weights, tokenizer, cache, kernels and threads. Everything that
/// computes with it (Engine, ComputeLogits, MeasurePerplexity) borrows it, one at a time; the
/// const members are safe to call concurrently.
class Model {
 public:
  /// Opens a MODEL: a GGUF (the first of a split set), a Hugging Face folder or a consolidated
  /// folder. Weights are read into memory; where a mixture's do not fit, its experts stay on disk
  /// and are read as tokens need them, through a cache that takes what memory is left.
  ///
  /// Errors: as DescribeModel's; kOverBudget where the memory is less than what is needed, before
  /// any weight is read;
  /// kInvalidInput for options that contradict the model or the machine.
  static Result<std::unique_ptr<Model>> Open(const std::string& path, const ModelOptions& options);
  /// The same of a head that was read before, which is used up.
  static Result<std::unique_ptr<Model>> Open(ModelHead head);
  ~Model();
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  const Tokenizer& tokenizer() const;
  bool has_chat_template() const;
  bool is_mixture() const;
  int64_t context() const;  ///< tokens of a sequence, prompt and answer
  int64_t vocab_size() const;
  int threads() const;
  std::string_view kernels() const;  ///< the kernel set's name
  MemoryNeed memory_need() const;
  double load_seconds() const;  ///< what Open took
  bool streams_experts() const;
  /// Since Open. Not while an engine steps in another thread: EngineStats::expert_store is for
  /// that.
  ExpertTraffic expert_traffic() const;
  std::string_view read_method() const;  ///< "io_uring, O_DIRECT", "pread, page cache", ...

  /// Bytes of weights that one decoded token reads, at least: the bound of decoding speed is the
  /// memory's bandwidth divided by this and, after a long context, cache_bytes_per_token.
  int64_t bytes_per_token() const;

  /// Bytes of keys and values that a token reads which is decoded after `context` others.
  int64_t cache_bytes_per_token(int64_t context) const;

  /// Multiplications and additions with weights that one token of a long prompt takes, attention's
  /// own (which grow with the context) left out.
  int64_t operations_per_token() const;

  /// The type that most bytes of weights have: "q4_k", ...
  std::string_view main_type() const;

  struct Parts;
  Parts& parts() { return *parts_; }  ///< for the library itself
  const Parts& parts() const { return *parts_; }

 private:
  explicit Model(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

/// All of a model's files but for the bytes of weights: read once, it can be described, planned
/// (plan.h) and opened.
class ModelHead {
 public:
  /// Errors: as DescribeModel's; kInvalidInput for options that contradict the model or the
  /// machine.
  static Result<ModelHead> Read(const std::string& path, const ModelOptions& options);
  ModelHead(ModelHead&&) noexcept;
  ModelHead& operator=(ModelHead&&) noexcept;
  ~ModelHead();

  const std::string& path() const { return path_; }
  const ModelOptions& options() const;        ///< with every default filled in
  Result<ModelDescription> Describe() const;  ///< errors: as DescribeModel's

  Model::Parts& parts() const { return *parts_; }  ///< for the library itself

 private:
  friend class Model;
  ModelHead(std::string path, std::unique_ptr<Model::Parts> parts);
  std::string path_;
  std::unique_ptr<Model::Parts> parts_;
};

/// The most memory this process has occupied so far, in bytes, mapped files included.
int64_t PeakMemoryBytes();

}  // namespace moxie
