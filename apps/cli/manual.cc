#include <cctype>
#include <memory>
#include <string>

#include "command.h"
#include "help.h"
#include "terminal.h"

namespace moxie::cli {
namespace {

/// Text as troff shows it unchanged.
std::string Escape(const std::string& text) {
  std::string out;
  bool line_start = true;
  for (const char c : text) {
    if (line_start && (c == '.' || c == '\'')) out += "\\&";
    line_start = c == '\n';
    if (c == '\\') {
      out += "\\e";
    } else if (c == '-') {
      out += "\\-";
    } else {
      out += c;
    }
  }
  return out;
}

std::string Upper(std::string text) {
  for (char& c : text) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return text;
}

std::string Entry(const CommandPage::Entry& entry) {
  std::string out = ".TP\n\\fB" + Escape(entry.name) + "\\fR";
  if (!entry.value.empty()) out += " \\fI" + Escape(entry.value) + "\\fR";
  return out + "\n" + Escape(entry.text) + "\n";
}

/// A page of section 1 in man(7)'s macros.
std::string ManPage(const CommandPage& page) {
  std::string name = page.name;
  for (char& c : name) {
    if (c == ' ') c = '-';
  }
  std::string out =
      ".TH \"" + Upper(name) + "\" 1 \"\" \"moxie " MOXIE_VERSION "\" \"User Commands\"\n";
  out += ".SH NAME\n" + Escape(name) + " \\- " + Escape(page.summary) + "\n";
  out += ".SH SYNOPSIS\n.B " + Escape(page.synopsis) + "\n";
  const auto section = [&](const std::string& title,
                           const std::vector<CommandPage::Entry>& entries) {
    if (entries.empty()) return;
    out += ".SH " + Upper(title) + "\n";
    for (const CommandPage::Entry& entry : entries) out += Entry(entry);
  };
  section("Commands", page.commands);
  section("Arguments", page.positionals);
  for (const CommandPage::Group& group : page.options) section(group.title, group.entries);
  if (!page.footer.empty()) out += ".SH NOTES\n.nf\n" + Escape(page.footer) + "\n.fi\n";
  return out;
}

}  // namespace

void AddManual(Program& program) {
  const auto name = std::make_shared<std::string>();
  CLI::App* const command = AddCommand(
      program, "man", "Print the manual page of a command (for man -l -)", [&program, name] {
        const CLI::App* page = &program.app;
        if (!name->empty()) page = program.app.get_subcommand(*name);
        Print(ManPage(DescribeCommand(*page)));
        return kDone;
      });
  command->add_option("COMMAND", *name, "The command; moxie itself if absent")
      ->check(CLI::Validator(
          [&program](std::string& text) -> std::string {
            const auto named = [&](const CLI::App* app) { return app->get_name() == text; };
            if (!program.app.get_subcommands(named).empty()) return "";
            return "is " + text + ", which is no command of moxie";
          },
          ""));
  command->footer("Example:\n  moxie man run | man -l -");
}

}  // namespace moxie::cli
