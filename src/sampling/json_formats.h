#pragma once

#include <optional>
#include <string_view>

namespace moxie {

/// The regular expression of a JSON Schema `format` for strings (draft 2020-12, section 7.3),
/// within what the format allows: dates that exist, hosts and addresses of ordinary length. Nothing
/// for a format that is not known.
std::optional<std::string_view> PatternOfFormat(std::string_view format);

}  // namespace moxie
