# The server's page and description as bytes of the program: apps/server/page/* and openapi.json
# become page_files.cc.
file(GLOB page_files CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/apps/server/page/*
     ${CMAKE_SOURCE_DIR}/apps/server/openapi.json)
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${page_files})
set(page_arrays "")
set(page_entries "")
foreach(file ${page_files})
  get_filename_component(name ${file} NAME)
  string(MAKE_C_IDENTIFIER ${name} identifier)
  file(READ ${file} bytes HEX)
  string(REGEX REPLACE "(..)" "0x\\1," bytes "${bytes}")
  string(APPEND page_arrays "constexpr unsigned char ${identifier}[] = {${bytes}};\n")
  string(APPEND page_entries "    {\"${name}\", AsText(${identifier})},\n")
endforeach()
file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/page_files.cc @ONLY CONTENT [[
// Made by cmake/page.cmake.
#include "server/page_files.h"

#include <array>

namespace moxie::server {
namespace {

@page_arrays@
template <size_t n>
std::string_view AsText(const unsigned char (&bytes)[n]) {
  return {reinterpret_cast<const char*>(bytes), n};
}

}  // namespace

std::span<const PageFile> PageFiles() {
  static const std::array files = std::to_array<PageFile>({
@page_entries@  });
  return files;
}

}  // namespace moxie::server
]])
