#pragma once

#include "model/family.h"

namespace moxie {

extern const Family kMixtral, kMistral, kLlama;
extern const Family kQwen2, kQwen2Moe, kQwen3, kQwen3Moe;
extern const Family kOlmoe;
extern const Family kGptOss;
extern const Family kDeepSeek;

}  // namespace moxie
