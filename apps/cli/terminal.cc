#include "terminal.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

namespace moxie::cli {

bool IsTerminal(std::FILE* stream) { return isatty(fileno(stream)) == 1; }

std::string Styled(std::FILE* stream, Style style, std::string_view text) {
  const char* const term = std::getenv("TERM");
  const char* const no_color = std::getenv("NO_COLOR");
  const bool plain = !IsTerminal(stream) || term == nullptr || std::string_view(term) == "dumb" ||
                     (no_color != nullptr && *no_color != '\0');
  if (plain) return std::string(text);
  const char* code = "0";
  switch (style) {
    case Style::kBold:
      code = "1";
      break;
    case Style::kDim:
      code = "2";
      break;
    case Style::kGreen:
      code = "32";
      break;
    case Style::kYellow:
      code = "33";
      break;
  }
  return "\x1b[" + std::string(code) + "m" + std::string(text) + "\x1b[0m";
}

ProgressBar::ProgressBar(std::string label)
    : label_(std::move(label)), terminal_(IsTerminal(stderr)) {}

ProgressBar::~ProgressBar() { Clear(); }

void ProgressBar::Show(double share, const std::string& detail) {
  const int percent = static_cast<int>(std::clamp(share, 0.0, 1.0) * 100);
  if (!terminal_ || percent == shown_) return;
  shown_ = percent;
  constexpr int kWidth = 32;
  const int filled = percent * kWidth / 100;
  std::string bar;
  for (int i = 0; i < kWidth; ++i) bar += i < filled ? "█" : "·";
  std::fprintf(stderr, "\r\x1b[K%s %s %3d %% %s", label_.c_str(), bar.c_str(), percent,
               detail.c_str());
  std::fflush(stderr);
}

void ProgressBar::Clear() {
  if (shown_ < 0) return;
  std::fputs("\r\x1b[K", stderr);
  std::fflush(stderr);
  shown_ = -1;
}

std::string FormatFixed(double value, int decimals) {
  char text[64];
  std::snprintf(text, sizeof(text), "%.*f", decimals, value);
  return text;
}

std::string FormatBytes(int64_t bytes) {
  const char* const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  auto value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 1024 && unit + 1 < std::size(units)) {
    value /= 1024;
    ++unit;
  }
  return FormatFixed(value, unit == 0 ? 0 : 1) + " " + units[unit];
}

std::string FormatCount(int64_t count) {
  const char* const units[] = {"", " k", " M", " B", " T"};
  auto value = static_cast<double>(count);
  size_t unit = 0;
  while (value >= 1000 && unit + 1 < std::size(units)) {
    value /= 1000;
    ++unit;
  }
  return FormatFixed(value, unit == 0 ? 0 : (value < 10 ? 2 : 1)) + units[unit];
}

bool Print(std::string_view text) {
  return std::fwrite(text.data(), 1, text.size(), stdout) == text.size();
}

}  // namespace moxie::cli
