#pragma once

#include <memory>
#include <optional>
#include <string>

namespace moxie::cli {

/// Reads lines from the user: with editing and history on a terminal, plainly elsewhere.
class LineEditor {
 public:
  /// `history_file` is read now and written at the end; empty keeps none.
  explicit LineEditor(std::string history_file);
  ~LineEditor();
  LineEditor(const LineEditor&) = delete;
  LineEditor& operator=(const LineEditor&) = delete;

  struct Input {
    std::string text;
    bool interrupted = false;  ///< Ctrl-C: the line was given up
  };

  /// One message: a line; lines that end in a backslash with what follows them; or several lines
  /// pasted at once. Nothing at the end of the input (Ctrl-D).
  std::optional<Input> Read(const std::string& prompt);

 private:
  struct Terminal;
  std::optional<Input> ReadLine(const std::string& prompt);

  std::unique_ptr<Terminal> terminal_;  // Null where standard input is no terminal.
};

/// Where the history of `moxie chat` is kept: moxie/chat_history below XDG_STATE_HOME (or
/// ~/.local/state), its folder made. Empty where there is no home.
std::string ChatHistoryFile();

}  // namespace moxie::cli
