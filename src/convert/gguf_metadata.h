#pragma once

#include <string_view>
#include <vector>

#include "convert/tensor_plan.h"
#include "formats/gguf.h"
#include "formats/model_files.h"
#include "model/config.h"
#include "moxie/result.h"

namespace moxie {

/// The keys of general.* and of the architecture that llama.cpp's files carry.
///
/// Errors: kUnsupported for a setting that the family's GGUF cannot say.
Result<GgufMetadata> ModelMetadata(const ModelFiles& files, const ModelConfig& config);

/// The tokenizer.* keys of a folder's tokenizer and its chat template; nothing where the folder has
/// no tokenizer. A vocabulary smaller than the model's is filled up with unused tokens.
///
/// Errors: kUnsupported for a tokenizer that a GGUF cannot say: one whose way to split text has no
/// name, or that turns out to give other tokens than the folder's does.
Result<void> AddTokenizerMetadata(const ModelFiles& files, const ModelConfig& config,
                                  GgufMetadata* metadata);

/// GGUF's divisors of the rotation's frequencies for llama3's scaling, such that the quotients are
/// the folder's frequencies to the last bit; those of the configuration where it has them, and none
/// where frequencies are not scaled so.
std::vector<float> FrequencyFactors(const RopeConfig& rope);

/// llama.cpp's number for a file of mostly that type (general.file_type).
uint32_t FileTypeNumber(DType main_type);

}  // namespace moxie
