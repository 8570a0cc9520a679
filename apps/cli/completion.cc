#include <memory>
#include <string>
#include <vector>

#include "command.h"
#include "help.h"
#include "terminal.h"

namespace moxie::cli {
namespace {

std::vector<CommandPage> AllPages(const CLI::App& program) {
  std::vector<CommandPage> pages;
  for (const CLI::App* command : program.get_subcommands([](const CLI::App*) { return true; })) {
    pages.push_back(DescribeCommand(*command));
    pages.back().name = command->get_name();
  }
  return pages;
}

std::vector<CommandPage::Entry> OptionsOf(const CommandPage& page) {
  std::vector<CommandPage::Entry> all;
  for (const CommandPage::Group& group : page.options)
    all.insert(all.end(), group.entries.begin(), group.entries.end());
  return all;
}

std::string Join(const std::vector<std::string>& words) {
  std::string out;
  for (const std::string& word : words) out += (out.empty() ? "" : " ") + word;
  return out;
}

/// Within single quotes of any of the three shells.
std::string Quoted(const std::string& text) {
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

std::string Bash(const std::vector<CommandPage>& pages) {
  std::vector<std::string> commands;
  commands.reserve(pages.size());
  for (const CommandPage& page : pages) commands.push_back(page.name);
  std::string out =
      "# bash completion for moxie; written by `moxie completion bash`\n"
      "_moxie() {\n"
      "  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}\n"
      "  local words=''\n"
      "  if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
      "    COMPREPLY=($(compgen -W " +
      Quoted(Join(commands) + " --help --version") +
      " -- \"$word\"))\n"
      "    return\n"
      "  fi\n"
      "  case ${COMP_WORDS[1]}:$before in\n";
  for (const CommandPage& page : pages) {
    for (const CommandPage::Entry& option : OptionsOf(page)) {
      if (!option.choices.empty())
        out += "    " + page.name + ":" + option.name + ") words=" + Quoted(Join(option.choices)) +
               " ;;\n";
    }
    for (const CommandPage::Entry& positional : page.positionals) {
      if (!positional.choices.empty())
        out += "    " + page.name + ":" + page.name +
               ") words=" + Quoted(Join(positional.choices)) + " ;;\n";
    }
  }
  out +=
      "  esac\n  if [ -z \"$words\" ] && [[ $word == -* ]]; then\n"
      "    case ${COMP_WORDS[1]} in\n";
  for (const CommandPage& page : pages) {
    std::vector<std::string> names;
    for (const CommandPage::Entry& option : OptionsOf(page)) names.push_back(option.name);
    out += "      " + page.name + ") words=" + Quoted(Join(names)) + " ;;\n";
  }
  return out +
         "    esac\n  fi\n"
         "  if [ -n \"$words\" ]; then\n"
         "    COMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n"
         "  else\n"
         "    COMPREPLY=($(compgen -f -- \"$word\"))\n"
         "    compopt -o filenames 2>/dev/null\n"
         "  fi\n"
         "}\n"
         "complete -F _moxie moxie\n";
}

/// In a zsh _arguments specification, colons and brackets mean something.
std::string ZshText(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == ':' || c == '[' || c == ']') out += '\\';
    out += c;
  }
  return out;
}

std::string Zsh(const std::vector<CommandPage>& pages) {
  std::string out =
      "#compdef moxie\n"
      "# zsh completion for moxie; written by `moxie completion zsh`\n"
      "_moxie() {\n"
      "  if (( CURRENT == 2 )); then\n"
      "    local -a commands=(\n";
  for (const CommandPage& page : pages)
    out += "      " + Quoted(page.name + ":" + page.summary) + "\n";
  out +=
      "    )\n    _describe command commands\n    return\n  fi\n"
      "  local command=$words[2]\n"
      "  shift words\n  (( CURRENT-- ))\n"
      "  case $command in\n";
  for (const CommandPage& page : pages) {
    out += "    " + page.name + ")\n      _arguments";
    for (const CommandPage::Entry& option : OptionsOf(page)) {
      std::string spec =
          (option.repeated ? "*" : "") + option.name + "[" + ZshText(option.text) + "]";
      if (!option.value.empty()) {
        spec += ":" + ZshText(option.value) + ":";
        spec += option.choices.empty() ? "_files" : "(" + Join(option.choices) + ")";
      }
      out += " \\\n        " + Quoted(spec);
    }
    for (const CommandPage::Entry& positional : page.positionals) {
      out += " \\\n        " +
             Quoted(std::string(positional.required ? ":" : "::") + positional.name + ":" +
                    (positional.choices.empty() ? "_files" : "(" + Join(positional.choices) + ")"));
    }
    out += " ;;\n";
  }
  return out +
         "  esac\n}\n"
         "if [ \"$funcstack[1]\" = _moxie ]; then _moxie \"$@\"; else compdef _moxie moxie; fi\n";
}

std::string Fish(const std::vector<CommandPage>& pages) {
  std::string out =
      "# fish completion for moxie; written by `moxie completion fish`\n"
      "complete -c moxie -n __fish_use_subcommand -l help -d 'Show help'\n"
      "complete -c moxie -n __fish_use_subcommand -l version -d 'Show the version'\n";
  for (const CommandPage& page : pages) {
    out += "complete -c moxie -n __fish_use_subcommand -f -a " + page.name + " -d " +
           Quoted(page.summary) + "\n";
    const std::string seen = "complete -c moxie -n '__fish_seen_subcommand_from " + page.name + "'";
    for (const CommandPage::Entry& option : OptionsOf(page)) {
      out += seen + " -l " + option.name.substr(2);
      if (!option.choices.empty()) {
        out += " -x -a " + Quoted(Join(option.choices));
      } else if (!option.value.empty()) {
        out += " -r";
      }
      out += " -d " + Quoted(option.text) + "\n";
    }
    for (const CommandPage::Entry& positional : page.positionals) {
      if (!positional.choices.empty())
        out += seen + " -x -a " + Quoted(Join(positional.choices)) + "\n";
    }
  }
  return out;
}

}  // namespace

void AddCompletion(Program& program) {
  const auto shell = std::make_shared<std::string>();
  CLI::App* const command = AddCommand(
      program, "completion", "Print the completion script of a shell", [&program, shell] {
        const std::vector<CommandPage> pages = AllPages(program.app);
        Print(*shell == "bash" ? Bash(pages) : *shell == "zsh" ? Zsh(pages) : Fish(pages));
        return kDone;
      });
  command->add_option("SHELL", *shell, "The shell")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}).description("bash, zsh, fish"));
  command->footer(
      "Examples:\n"
      "  source <(moxie completion bash)\n"
      "  moxie completion zsh > ~/.zfunc/_moxie\n"
      "  moxie completion fish > ~/.config/fish/completions/moxie.fish");
}

}  // namespace moxie::cli
