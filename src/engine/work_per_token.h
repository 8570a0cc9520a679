#pragma once

#include <cstdint>
#include <map>

#include "core/dtype.h"
#include "model/config.h"
#include "model/weights.h"

namespace moxie {

/// The products with weights that one token takes: `used` experts of each mixture, one row of the
/// embedding left out.
struct TokenWork {
  struct Products {
    int64_t operations = 0;  ///< multiplications and additions
    int64_t bytes = 0;       ///< of weights
  };
  std::map<DType, Products> layers;  ///< of every token
  Products head;                     ///< logits: of a prompt's last token alone
  DType head_type = DType::kF32;

  int64_t TotalBytes() const;
  DType MainType() const;  ///< that most bytes have
};

/// `weights` may be an outline.
TokenWork WorkPerToken(const ModelConfig& config, const ModelWeights& weights);

}  // namespace moxie
