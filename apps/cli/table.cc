#include "table.h"

#include <algorithm>
#include <cstdio>

#include "terminal.h"

namespace moxie::cli {
namespace {

constexpr char kGap[] = "   ";

/// Characters of UTF-8 text.
size_t Width(const std::string& text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xc0) != 0x80;
  }));
}

}  // namespace

std::string Table::Text() const {
  std::vector<size_t> widths(columns_.size());
  for (const Row& row : rows_) {
    for (size_t i = 0; i < widths.size(); ++i) widths[i] = std::max(widths[i], Width(row.cells[i]));
  }
  std::string text;
  for (const Row& row : rows_) {
    std::string line;
    for (size_t i = 0; i < widths.size(); ++i) {
      const std::string pad(widths[i] - Width(row.cells[i]), ' ');
      const bool right = columns_[i] == Align::kRight;
      line += (i > 0 ? kGap : "") + (right ? pad + row.cells[i] : row.cells[i] + pad);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += (row.heading ? Styled(stdout, Style::kBold, line) : line) + "\n";
  }
  return text;
}

}  // namespace moxie::cli
