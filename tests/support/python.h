#pragma once

#include <sys/wait.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "support/source_dir.h"

namespace moxie::testing {

/// What a script exits with where the reference it needs is not installed.
inline constexpr int kNotInstalled = 77;

/// Runs a Python script with one argument, a path, and returns its exit status.
inline int RunPython(const char* script, const std::filesystem::path& argument) {
  const std::filesystem::path file = argument.string() + ".check.py";
  std::ofstream(file) << script;
  const std::string command =
      SourceDir().string() + "/scripts/python '" + file.string() + "' '" + argument.string() + "'";
  const int status = std::system(command.c_str());
  std::filesystem::remove(file);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace moxie::testing
