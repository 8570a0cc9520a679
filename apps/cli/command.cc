#include "command.h"

#include <cstdio>
#include <utility>

namespace moxie::cli {
namespace {

/// Control characters could split the line or steer the terminal.
std::string OneLine(const std::string& text) {
  std::string line;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte != 0x7f) {
      line += c;
      continue;
    }
    char escaped[5];
    std::snprintf(escaped, sizeof(escaped), "\\x%02x", byte);
    line += escaped;
  }
  return line;
}

}  // namespace

CLI::App* AddCommand(Program& program, const std::string& name, const std::string& description,
                     Action run) {
  CLI::App* const command = program.app.add_subcommand(name, description);
  command->callback([&program, run = std::move(run)] { program.action = run; });
  return command;
}

int Fail(const std::string& command, const Error& error) {
  std::fflush(stdout);
  if (error.code == ErrorCode::kCancelled) return kInterrupted;
  std::fprintf(stderr, "moxie %s: %s\n", command.c_str(), OneLine(error.message).c_str());
  return kBadInput;
}

int Fail(const std::string& command, const std::string& file, const Error& error) {
  return Fail(command, Error{error.code, file + ": " + error.message});
}

}  // namespace moxie::cli
