#pragma once

#include <cstddef>
#include <nlohmann/json_fwd.hpp>
#include <string_view>

#include "moxie/result.h"

namespace moxie {

/// What a JSON text may be at most. The defaults hold every published config.json and
/// tokenizer.json several times over, and keep a hostile text below about 1 GiB of memory.
struct JsonLimits {
  size_t bytes = size_t{128} << 20;
  size_t depth = 512;               ///< nested objects and arrays
  size_t values = 6'000'000;        ///< of every kind, containers included
  size_t ordered_members = 16'384;  ///< of one object of ParseOrderedJson, which searches linearly
};

/// Parses one JSON text (RFC 8259) from an untrusted source, without recursion.
///
/// `name` begins the message of an error and is that of the file or argument. Object members are
/// sorted by key; a key that occurs twice in one object is an error.
///
/// Errors: kInvalidInput with line and column.
Result<nlohmann::json> ParseJson(std::string_view text, std::string_view name,
                                 const JsonLimits& limits = {});

/// The same, with the order of object members kept, for texts whose order shows (tools that a chat
/// template prints, for instance).
Result<nlohmann::ordered_json> ParseOrderedJson(std::string_view text, std::string_view name,
                                                const JsonLimits& limits = {});

}  // namespace moxie
