#pragma once

#include <functional>
#include <string_view>

#include "convert/importance_file.h"
#include "moxie/model.h"
#include "moxie/quantize.h"
#include "moxie/result.h"

namespace moxie {

/// What MeasureImportance writes: the importance of a text, measured with `model`.
///
/// Errors: as MeasureImportance's.
Result<Importance> CollectImportance(Model& model, std::string_view text,
                                     const ImportanceOptions& options,
                                     const std::function<bool(double share)>& progress);

}  // namespace moxie
