#pragma once

#include <span>
#include <string_view>

#include "tokenizer/jinja_runtime.h"

namespace moxie::jinja {

struct NamedFilter {
  std::string_view name;
  Filter filter;
};

/// Jinja's filters of one value, and those of the items of one; FindFilter looks through both.
std::span<const NamedFilter> ScalarFilters();
std::span<const NamedFilter> SequenceFilters();

}  // namespace moxie::jinja
