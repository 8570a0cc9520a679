#include "help.h"

#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <memory>
#include <sstream>

namespace moxie::cli {
namespace {

constexpr size_t kWidth = 96;
constexpr size_t kIndent = 2;
constexpr size_t kTextColumn = 26;

/// Choices stand in a validator's description as "a, b, c".
std::vector<std::string> ChoicesOf(const CLI::Option& option) {
  std::string type = option.get_type_name();
  const size_t colon = type.find(':');
  std::vector<std::string> choices;
  if (colon == std::string::npos) return choices;
  std::istringstream list(type.substr(colon + 1));
  for (std::string choice; list >> choice;) {
    if (choice.ends_with(',')) choice.pop_back();
    choices.push_back(choice);
  }
  return choices;
}

CommandPage::Entry EntryOf(const CLI::Option& option) {
  CommandPage::Entry entry;
  entry.name = option.nonpositional() ? "--" + option.get_lnames().front()
                                      : option.get_name(/*positional=*/true);
  if (!option.get_snames().empty())
    entry.name = "-" + option.get_snames().front() + ", " + entry.name;
  if (option.get_expected_max() > 0) {
    const std::string type = option.get_type_name();
    entry.value = type.substr(0, type.find(':'));
  }
  entry.text = option.get_description();
  entry.choices = ChoicesOf(option);
  for (size_t i = 0; i < entry.choices.size(); ++i)
    entry.text += (i == 0 ? ": " : ", ") + entry.choices[i];
  if (!option.get_default_str().empty()) entry.text += " [" + option.get_default_str() + "]";
  entry.required = option.get_required();
  entry.repeated = option.get_multi_option_policy() == CLI::MultiOptionPolicy::TakeAll &&
                   option.get_items_expected_max() > 1;
  return entry;
}

std::string SynopsisOf(const CommandPage& page) {
  std::string text = page.name;
  if (!page.commands.empty()) return text + " COMMAND [ARGUMENTS]";
  std::string required;
  for (const CommandPage::Group& group : page.options) {
    for (const CommandPage::Entry& entry : group.entries) {
      if (entry.required) required += " " + entry.name + " " + entry.value;
    }
  }
  text += required.empty() ? " [OPTIONS]" : required + " [OPTIONS]";
  for (const CommandPage::Entry& entry : page.positionals)
    text += entry.required ? " " + entry.name : " [" + entry.name + "]";
  return text;
}

/// Breaks `text` into lines of at most `width` columns.
std::vector<std::string> Wrap(const std::string& text, size_t width) {
  std::vector<std::string> lines(1);
  std::istringstream words(text);
  for (std::string word; words >> word;) {
    if (!lines.back().empty() && lines.back().size() + 1 + word.size() > width)
      lines.emplace_back();
    lines.back() += (lines.back().empty() ? "" : " ") + word;
  }
  return lines;
}

std::string EntryText(const CommandPage::Entry& entry, size_t column) {
  std::string out =
      std::string(kIndent, ' ') + entry.name + (entry.value.empty() ? "" : " " + entry.value);
  if (out.size() + 2 > column) {
    out += "\n" + std::string(column, ' ');
  } else {
    out.append(column - out.size(), ' ');
  }
  const std::vector<std::string> lines = Wrap(entry.text, kWidth - column);
  for (size_t i = 0; i < lines.size(); ++i)
    out += (i == 0 ? "" : std::string(column, ' ')) + lines[i] + "\n";
  return out;
}

class HelpFormatter final : public CLI::FormatterBase {
 public:
  std::string make_help(const CLI::App* app, std::string /*name*/,
                        CLI::AppFormatMode /*mode*/) const override {
    return HelpText(DescribeCommand(*app));
  }
};

}  // namespace

CommandPage DescribeCommand(const CLI::App& command) {
  CommandPage page;
  const CLI::App* const parent = command.get_parent();
  page.name = (parent != nullptr ? parent->get_name() + " " : "") + command.get_name();
  page.summary = command.get_description();
  page.footer = command.get_footer();
  for (const CLI::App* child : command.get_subcommands([](const CLI::App*) { return true; }))
    page.commands.push_back({child->get_name(), "", child->get_description(), {}, false, false});
  for (const CLI::Option* option : command.get_options()) {
    if (option->get_group().empty()) continue;  // Hidden.
    if (option->get_positional()) {
      page.positionals.push_back(EntryOf(*option));
      page.positionals.back().value.clear();
      continue;
    }
    auto group = std::find_if(page.options.begin(), page.options.end(), [&](const auto& known) {
      return known.title == option->get_group();
    });
    if (group == page.options.end()) {
      page.options.push_back({option->get_group(), {}});
      group = page.options.end() - 1;
    }
    group->entries.push_back(EntryOf(*option));
  }
  // A command's own options come first, and among these --help comes last.
  std::stable_partition(page.options.begin(), page.options.end(),
                        [](const CommandPage::Group& group) { return group.title == "Options"; });
  if (!page.options.empty()) {
    auto& own = page.options.front().entries;
    std::stable_partition(own.begin(), own.end(),
                          [](const CommandPage::Entry& entry) { return entry.name != "--help"; });
  }
  page.synopsis = SynopsisOf(page);
  return page;
}

std::string HelpText(const CommandPage& page) {
  std::string out = page.summary + "\n\nUsage: " + page.synopsis + "\n";
  const auto section = [&](const std::string& title, const std::vector<CommandPage::Entry>& entries,
                           size_t column) {
    if (entries.empty()) return;
    out += "\n" + title + ":\n";
    for (const CommandPage::Entry& entry : entries) out += EntryText(entry, column);
  };
  section("Commands", page.commands, 14);
  section("Arguments", page.positionals, kTextColumn);
  for (const CommandPage::Group& group : page.options)
    section(group.title, group.entries, kTextColumn);
  if (!page.footer.empty()) out += "\n" + page.footer + "\n";
  return out;
}

void UseHelpText(CLI::App& program) {
  const auto formatter = std::make_shared<HelpFormatter>();
  const auto use = [&](CLI::App& app) {
    app.formatter(formatter);
    app.set_help_flag("--help", "Show this and exit");
  };
  use(program);
  for (CLI::App* command : program.get_subcommands([](CLI::App*) { return true; })) use(*command);
}

}  // namespace moxie::cli
