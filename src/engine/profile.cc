#include "moxie/profile.h"

namespace moxie {

std::string_view NameOf(Part part) {
  switch (part) {
    case Part::kPass:
      return "pass";
    case Part::kLayer:
      return "layer";
    case Part::kAttention:
      return "attention";
    case Part::kContext:
      return "context";
    case Part::kRouter:
      return "router";
    case Part::kExperts:
      return "experts";
    case Part::kDense:
      return "dense";
    case Part::kHead:
      return "head";
    case Part::kSampling:
      return "sampling";
  }
  return "";
}

}  // namespace moxie
