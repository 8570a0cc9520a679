#pragma once

#include <CLI/App.hpp>
#include <string>
#include <vector>

namespace moxie::cli {

/// What the declarations of a command say about it, in the form that help, manual pages and shell
/// completions are written from.
struct CommandPage {
  struct Entry {
    std::string name;   ///< "--threads", or a positional's or subcommand's name
    std::string value;  ///< "N", or empty for flags
    std::string text;   ///< description, with the choices and the default
    std::vector<std::string> choices;
    bool required = false;
    bool repeated = false;
  };
  struct Group {
    std::string title;
    std::vector<Entry> entries;
  };

  std::string name;      ///< "moxie run", or "moxie" itself
  std::string summary;   ///< one line
  std::string synopsis;  ///< "moxie run [OPTIONS] MODEL [PROMPT]"
  std::vector<Entry> commands;
  std::vector<Entry> positionals;
  std::vector<Group> options;
  std::string footer;
};

CommandPage DescribeCommand(const CLI::App& command);

/// The page as `--help` prints it, at most 100 columns wide.
std::string HelpText(const CommandPage& page);

/// Makes `--help` of the program and of all its subcommands print HelpText.
void UseHelpText(CLI::App& program);

}  // namespace moxie::cli
