#pragma once

#include "quant/scale_search.h"

namespace moxie {

// The search of scale_search.h for groups with an offset: x is approximated by scale * code + base.

/// A scale >= 0 and the value of code 0.
struct Line {
  float scale = 0;
  float base = 0;
};

/// What a line does to a group: with c the nearest code and e = x - scale * c - base, the weighted
/// sums of e * e (the error), e, c * e, c, c * c and 1.
struct LineFit {
  float ee = 0;
  float e = 0;
  float ce = 0;
  float c = 0;
  float cc = 0;
  float one = 0;
};

/// Codes run from 0 to `highest`.
LineFit MeasureLine(const Group& group, int highest, Line line);

/// The line with the least error for the group; with `base_below_zero` among those of base <= 0.
Line FitLine(const Group& group, int highest, bool base_below_zero);

/// FitLine's result with both numbers in half precision, each rounded to the neighbour that errs
/// less.
Line FitHalfLine(const Group& group, int highest);

/// Writes the nearest code of each element.
void AssignCodes(const Group& group, int highest, Line line, uint8_t* codes);

}  // namespace moxie
