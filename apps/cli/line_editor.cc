#include "line_editor.h"

#include <histedit.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <clocale>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <system_error>

#include "terminal.h"

namespace moxie::cli {
namespace {

constexpr int kHistoryLines = 1000;
// Typing is slower than this; a paste is there at once.
constexpr int kPasteMilliseconds = 15;

bool MoreIsWaiting() {
  pollfd input{STDIN_FILENO, POLLIN, 0};
  return poll(&input, 1, kPasteMilliseconds) > 0 && (input.revents & POLLIN) != 0;
}

}  // namespace

struct LineEditor::Terminal {
  EditLine* edit = nullptr;
  History* history = nullptr;
  std::string history_file;
  std::string prompt;
  bool interrupted = false;

  static Terminal& Of(EditLine* edit) {
    void* self = nullptr;
    el_get(edit, EL_CLIENTDATA, &self);
    return *static_cast<Terminal*>(self);
  }
  static char* Prompt(EditLine* edit) { return Of(edit).prompt.data(); }
  static unsigned char Interrupt(EditLine* edit, int /*key*/) {
    Of(edit).interrupted = true;
    return CC_EOF;
  }

  explicit Terminal(std::string file) : history_file(std::move(file)) {
    // Without a locale of UTF-8 the editor would not know where characters end.
    std::setlocale(LC_CTYPE, "");
    edit = el_init("moxie", stdin, stdout, stderr);
    history = history_init();
    HistEvent event;
    ::history(history, &event, H_SETSIZE, kHistoryLines);
    ::history(history, &event, H_SETUNIQUE, 1);
    if (!history_file.empty()) ::history(history, &event, H_LOAD, history_file.c_str());
    el_set(edit, EL_CLIENTDATA, this);
    el_set(edit, EL_EDITOR, "emacs");
    el_set(edit, EL_PROMPT_ESC, Prompt, '\1');
    el_set(edit, EL_HIST, ::history, history);
    // Ctrl-C reaches the editor as a key: it gives up the line, not the program.
    el_set(edit, EL_SETTY, "-d", "-isig", nullptr);
    el_set(edit, EL_ADDFN, "moxie-interrupt", "Give up this line", Interrupt);
    el_set(edit, EL_BIND, "^C", "moxie-interrupt", nullptr);
    el_set(edit, EL_BIND, "^R", "em-inc-search-prev", nullptr);
    el_set(edit, EL_BIND, "\\e[A", "ed-prev-history", nullptr);
    el_set(edit, EL_BIND, "\\e[B", "ed-next-history", nullptr);
    el_set(edit, EL_BIND, "\\e[3~", "ed-delete-next-char", nullptr);
    el_set(edit, EL_BIND, "\\e[H", "ed-move-to-beg", nullptr);
    el_set(edit, EL_BIND, "\\e[F", "ed-move-to-end", nullptr);
  }
  ~Terminal() {
    HistEvent event;
    if (!history_file.empty()) {
      ::history(history, &event, H_SAVE, history_file.c_str());
      chmod(history_file.c_str(), S_IRUSR | S_IWUSR);
    }
    history_end(history);
    el_end(edit);
  }
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;
};

LineEditor::LineEditor(std::string history_file) {
  if (IsTerminal(stdin) && IsTerminal(stdout))
    terminal_ = std::make_unique<Terminal>(std::move(history_file));
}

LineEditor::~LineEditor() = default;

std::optional<LineEditor::Input> LineEditor::ReadLine(const std::string& prompt) {
  if (terminal_ == nullptr) {
    Input input;
    if (!std::getline(std::cin, input.text)) return std::nullopt;
    return input;
  }
  // libedit takes what stands between two \1 as invisible, and wants a visible character after it.
  const bool plain = Styled(stdout, Style::kGreen, "").empty();
  terminal_->prompt =
      plain ? prompt + " " : "\1" + Styled(stdout, Style::kGreen, "\1" + prompt + "\1") + "\1 ";
  terminal_->interrupted = false;
  int length = 0;
  const char* const line = el_gets(terminal_->edit, &length);
  if (terminal_->interrupted) {
    Print("^C\n");
    return Input{"", true};
  }
  if (line == nullptr || length <= 0) {
    Print("\n");
    return std::nullopt;
  }
  Input input{std::string(line, static_cast<size_t>(length)), false};
  if (input.text.ends_with('\n')) input.text.pop_back();
  HistEvent event;
  if (!input.text.empty()) ::history(terminal_->history, &event, H_ENTER, input.text.c_str());
  return input;
}

std::optional<LineEditor::Input> LineEditor::Read(const std::string& prompt) {
  std::optional<Input> input = ReadLine(prompt);
  while (input && !input->interrupted) {
    const bool continued = input->text.ends_with('\\');
    if (continued) input->text.pop_back();
    if (!continued && (terminal_ == nullptr || !MoreIsWaiting())) break;
    std::optional<Input> next = ReadLine("…");
    if (!next) break;
    if (next->interrupted) return next;
    input->text += "\n" + next->text;
  }
  return input;
}

std::string ChatHistoryFile() {
  const char* const state = std::getenv("XDG_STATE_HOME");
  const char* const home = std::getenv("HOME");
  std::filesystem::path folder;
  if (state != nullptr && *state == '/') {
    folder = state;
  } else if (home != nullptr && *home != '\0') {
    folder = std::filesystem::path(home) / ".local/state";
  } else {
    return "";
  }
  folder /= "moxie";
  std::error_code ignored;
  std::filesystem::create_directories(folder, ignored);
  return (folder / "chat_history").string();
}

}  // namespace moxie::cli
