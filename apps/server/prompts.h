#pragma once

#include <vector>

#include "moxie/tokenizer.h"
#include "server/json.h"
#include "server/server.h"

namespace moxie::server {

/// Reads the field `name`, which must be there: a text or a list of token ids, or a list of such.
/// Ids are taken as they are; texts are encoded with what the tokenizer adds.
std::vector<std::vector<TokenId>> ReadPrompts(Fields& fields, const char* name,
                                              const RequestLimits& limits,
                                              const Tokenizer& tokenizer);

}  // namespace moxie::server
