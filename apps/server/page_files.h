#pragma once

#include <span>
#include <string_view>

namespace moxie::server {

/// A file of apps/server/page/, or openapi.json, embedded by cmake/page.cmake.
struct PageFile {
  std::string_view name;
  std::string_view bytes;
};

std::span<const PageFile> PageFiles();

}  // namespace moxie::server
