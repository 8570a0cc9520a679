#include "model/families/families.h"

namespace moxie {
namespace {

constexpr const Family* kFamilies[] = {&kMixtral, &kMistral,  &kLlama, &kQwen2,  &kQwen2Moe,
                                       &kQwen3,   &kQwen3Moe, &kOlmoe, &kGptOss, &kDeepSeek};

}  // namespace

std::span<const Family* const> AllFamilies() { return kFamilies; }

const Family* FindFamily(std::string_view name) {
  for (const Family* family : kFamilies) {
    if (family->name == name) return family;
  }
  return nullptr;
}

}  // namespace moxie
