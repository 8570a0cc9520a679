#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "moxie/model.h"
#include "moxie/result.h"

namespace moxie {

/// A type for the tensors whose names in a GGUF match a pattern of * (anything) and ? (one
/// character).
struct TensorTypeRule {
  std::string pattern;
  std::string type;
};

struct QuantizeOptions {
  // One of these three says what to aim at.
  std::string type = {};   ///< a type or mix: "q4_k_m", "q8_0", "iq4_xs"
  int64_t size_bytes = 0;  ///< the file's size at most, with the types that serve it best
  double bits = 0;         ///< the same for the mean bits of all tensors' elements

  std::string text = {};       ///< for a size: what the model is probed with
  std::string text_name = {};  ///< where that is from, kept in the file
  std::string probes = {};     ///< for a size: a file of measured divergences, or empty
  bool stacked = false;        ///< for a size: one type for all experts of a layer's matrix
  std::vector<TensorTypeRule> tensor_types = {};  ///< go before the mix; the first match decides
  std::string importance = {};                    ///< an importance matrix's file, or empty
  int64_t memory_bytes = 0;                       ///< for buffers; 0: 64 MiB
  int threads = 0;                                ///< 0: every CPU this process may use
  /// Told the share done, in [0, 1], now and then; false stops. May be empty.
  std::function<bool(double share)> progress = {};
};

/// What became of a model.
struct QuantizeReport {
  struct Share {
    std::string type;
    int64_t tensors = 0;
    int64_t bytes = 0;
  };
  /// What was chosen for a tensor, where a size was asked for.
  struct Choice {
    std::string tensor;
    std::string type;
    int64_t bytes = 0;
    double divergence = 0;  ///< expected of it, in nats a token
  };
  int64_t bytes_before = 0;  ///< of tensors
  int64_t bytes_after = 0;
  std::vector<Share> types;            ///< by bytes, most first
  std::vector<Choice> choices;         ///< of all matrices, in the order of the file
  std::vector<std::string> unweighed;  ///< quantised matrices that the importance does not know
};

/// Writes a model's tensors in smaller types, as a GGUF. `in` is a GGUF or a folder; matrices of
/// any readable type are taken, norms, routers and vectors stay as they are. A mix chooses types as
/// llama.cpp's of the same name; rows that are not whole blocks get a type of smaller blocks.
///
/// For a size, the model is opened and run on the text with one matrix of a layer after another
/// disturbed, which says what each type costs there in Kullback-Leibler divergence, and the types
/// are chosen whose costs add up to least (docs/quantisation.md). Every expert may get types of its
/// own; its matrices are then tensors of their own, a form that older GGUFs have, but for models
/// whose experts have biases. Without an importance file the text's own importance is measured
/// first. The choices are kept in the file as moxie.quantize.choices, a line of tensor, type and
/// expected divergence each. A `probes` file keeps what was measured, layer by layer,
/// and nothing that it holds is measured again: a run that was broken off goes on, and further
/// sizes of a model, stacked or not, cost little. Runs may share it at the same time. It holds for
/// the model, text and importance that it was made with. This needs the memory that running the
/// model takes.
///
/// Each block's codes and scales are those of least squared error, weighed by the importance where
/// there is one. Tensors stream through in blocks of rows, so memory does not grow with the model.
/// The file has its name only when it is whole. The result does not depend on the machine or on
/// the number of threads.
///
/// Errors: kInvalidInput, kNotFound, kIo, kUnsupported, kOverBudget, kCancelled.
Result<QuantizeReport> QuantizeModel(const std::string& in, const std::string& out,
                                     const QuantizeOptions& options);

/// The names that QuantizeOptions::type knows: "f32, f16, ...".
std::string QuantizeTypeNames();

struct ImportanceOptions {
  int64_t window = 512;      ///< tokens seen at once, at most the model's context
  int64_t chunks = -1;       ///< windows at most; -1: all
  std::string dataset = {};  ///< the text's name, kept in the file
};

struct ImportanceReport {
  int64_t windows = 0;
  int64_t matrices = 0;  ///< measured; each expert counts as one
  /// "blk.0.ffn_down_exps.weight 3": experts that no token reached. Quantising takes the mean of
  /// their layer's others instead.
  std::vector<std::string> unreached;
};

/// Measures the importance matrix of a text: for each matrix of each layer, by column, the sum of
/// the squares of what goes into it, an expert's with its own count; and writes it as llama.cpp's
/// GGUF form. The text is cut into windows side by side (a rest is left out), as for perplexity.
///
/// Errors: kInvalidInput for a text shorter than a window; kIo; kCancelled.
Result<ImportanceReport> MeasureImportance(Model& model, std::string_view text,
                                           const std::string& out, const ImportanceOptions& options,
                                           const std::function<bool(double share)>& progress = {});

}  // namespace moxie
