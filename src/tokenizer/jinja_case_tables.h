#pragma once

#include <array>
#include <cstdint>
#include <span>

/// Tables of Unicode's character properties behind jinja_text.h; made by
/// scripts/make_case_tables.py.
namespace moxie::jinja {

struct CodeRange {
  char32_t first, last;
};
/// Every `stride`-th code point from first to last maps to itself plus delta.
struct CaseRun {
  char32_t first, last;
  int32_t delta;
  uint32_t stride;
};
/// A code point that maps to two or three; unused places are 0.
struct CaseExpansion {
  char32_t from;
  std::array<char32_t, 3> to;
};
struct CaseTable {
  std::span<const CaseRun> runs;
  std::span<const CaseExpansion> expansions;
};

extern const CaseTable kUpperTable, kLowerTable, kTitleTable, kFoldTable;
extern const std::span<const CodeRange> kAlphaRanges, kDecimalRanges, kDigitRanges, kNumericRanges,
    kUnprintableRanges, kLowerCaseRanges, kUpperCaseRanges, kTitleCaseRanges, kCaseIgnorableRanges;

}  // namespace moxie::jinja
