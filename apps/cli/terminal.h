#pragma once

#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>

namespace moxie::cli {

/// Whether the stream is a terminal.
bool IsTerminal(std::FILE* stream);

/// Text in a colour where `stream` is a terminal that shows colours (TERM is not "dumb" and
/// NO_COLOR is not set), else the text alone.
enum class Style : uint8_t { kBold, kDim, kGreen, kYellow };
std::string Styled(std::FILE* stream, Style style, std::string_view text);

/// A bar on standard error that redraws itself; nothing where that is no terminal.
class ProgressBar {
 public:
  explicit ProgressBar(std::string label);
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  void Show(double share, const std::string& detail = "");  ///< share in [0, 1]
  void Clear();                                             ///< takes the bar off the screen

 private:
  std::string label_;
  bool terminal_;
  int shown_ = -1;  // Per cent on the screen.
};

/// 1536 -> "1.5 KiB".
std::string FormatBytes(int64_t bytes);
/// 134515008 -> "134.5 M".
std::string FormatCount(int64_t count);
/// A number with a fixed number of decimals.
std::string FormatFixed(double value, int decimals);

/// Writes text to standard output. Returns false where that fails.
bool Print(std::string_view text);

}  // namespace moxie::cli
