#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace moxie::cli {

enum class Align : uint8_t { kLeft, kRight };

/// Rows of cells in columns as wide as their widest cell.
class Table {
 public:
  explicit Table(std::vector<Align> columns) : columns_(std::move(columns)) {}

  /// A row shown in bold on a terminal.
  void AddHeading(std::vector<std::string> cells) { rows_.push_back({std::move(cells), true}); }
  /// As many cells as there are columns; ASCII, or UTF-8 whose characters are one column wide.
  void Add(std::vector<std::string> cells) { rows_.push_back({std::move(cells), false}); }

  /// The rows, a line each.
  std::string Text() const;

 private:
  struct Row {
    std::vector<std::string> cells;
    bool heading;
  };
  std::vector<Align> columns_;
  std::vector<Row> rows_;
};

}  // namespace moxie::cli
