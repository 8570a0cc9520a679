#include "sampling/json_numbers.h"

#include <algorithm>
#include <map>
#include <tuple>
#include <vector>

namespace moxie {
namespace {

using Part = GrammarBuilder::Part;
using State = GrammarBuilder::State;

constexpr size_t kMostWholeDigits = 30;
constexpr size_t kMostFractionDigits = 24;
constexpr size_t kExactDigits = 15;  // Decimals of so many digits are different doubles.

/// A bound without its sign: digits without leading zeros before the point (but "0"), and without
/// trailing ones after it.
struct Magnitude {
  std::string whole = "0";
  std::string fraction;
  bool excluded = false;
};

struct SignedBound {
  bool negative = false;
  Magnitude magnitude;
};

SignedBound ReadBound(const NumberBound& bound) {
  SignedBound read;
  std::string text = bound.decimal;
  read.negative = text.starts_with('-');
  if (read.negative) text.erase(0, 1);
  const size_t point = std::min(text.find('.'), text.size());
  read.magnitude.whole = text.substr(0, point);
  if (point < text.size()) read.magnitude.fraction = text.substr(point + 1);
  std::string& fraction = read.magnitude.fraction;
  while (fraction.ends_with('0')) fraction.pop_back();
  read.magnitude.excluded = bound.excluded;
  if (read.magnitude.whole == "0" && fraction.empty()) read.negative = false;
  return read;
}

bool Less(const std::string& a, const std::string& b) {
  return a.size() != b.size() ? a.size() < b.size() : a < b;
}

std::string PlusOne(std::string digits) {
  for (size_t i = digits.size(); i-- > 0;) {
    if (digits[i] != '9') {
      ++digits[i];
      return digits;
    }
    digits[i] = '0';
  }
  return "1" + digits;
}

/// Of digits that stand for more than 0.
std::string MinusOne(std::string digits) {
  size_t i = digits.size() - 1;
  for (; digits[i] == '0'; --i) digits[i] = '9';
  --digits[i];
  if (digits.size() > 1 && digits[0] == '0') digits.erase(0, 1);
  return digits;
}

class RangeBuilder {
 public:
  RangeBuilder(bool fractions, GrammarBuilder* builder)
      : fractions_(fractions), builder_(*builder) {}

  Part Between(const std::optional<NumberBound>& least, const std::optional<NumberBound>& most) {
    std::optional<SignedBound> low;
    std::optional<SignedBound> high;
    if (least) low = ReadBound(*least);
    if (most) high = ReadBound(*most);
    // More digits could round onto a bound that is excluded.
    exact_ = (least && least->excluded) || (most && most->excluded);
    std::vector<Part> parts;
    if (!high || !high->negative) {
      const bool from_zero = !low || low->negative;
      parts.push_back(Magnitudes(from_zero ? Magnitude() : low->magnitude,
                                 high ? std::optional(high->magnitude) : std::nullopt));
    }
    if (!low || low->negative) {
      // Not "-0": what is below zero is more than 0 in size.
      const Magnitude above_zero{"0", "", true};
      parts.push_back(builder_.Sequence(
          {builder_.Literal("-"), Magnitudes(high && high->negative ? high->magnitude : above_zero,
                                             low ? std::optional(low->magnitude) : std::nullopt)}));
    }
    return builder_.Choice(parts);
  }

 private:
  Part Magnitudes(const Magnitude& low, const std::optional<Magnitude>& high) {
    if (!fractions_) {
      const bool next = low.excluded || !low.fraction.empty();
      const std::string first = next ? PlusOne(low.whole) : low.whole;
      if (!high) return Wholes(first, std::nullopt);
      if (!high->excluded || !high->fraction.empty()) return Wholes(first, high->whole);
      return high->whole == "0" ? builder_.Never() : Wholes(first, MinusOne(high->whole));
    }
    if (high && low.whole == high->whole)
      return builder_.Sequence({builder_.Literal(low.whole), Fraction(low, high)});
    std::vector<Part> parts = {
        builder_.Sequence({builder_.Literal(low.whole), Fraction(low, std::nullopt)})};
    const std::string next = PlusOne(low.whole);
    if (high && Less(low.whole, high->whole))
      parts.push_back(builder_.Sequence({builder_.Literal(high->whole), Fraction({}, high)}));
    if (high && !Less(low.whole, high->whole)) return builder_.Never();
    if (!high || high->whole != "0") {
      const auto last = high ? std::optional(MinusOne(high->whole)) : std::nullopt;
      parts.push_back(builder_.Sequence({Wholes(next, last), Fraction({}, std::nullopt)}));
    }
    return builder_.Choice(parts);
  }

  /// Whole numbers from `first` to `last`.
  Part Wholes(const std::string& first, const std::optional<std::string>& last) {
    const Part part = builder_.Never();
    const size_t most = last ? last->size() : kMostWholeDigits;
    for (size_t size = first.size(); size <= most; ++size) {
      const std::string low = size == first.size() ? first : "1" + std::string(size - 1, '0');
      const std::string high = last && size == last->size() ? *last : std::string(size, '9');
      if (low <= high) builder_.AddBetween(part.entry, low, high, '0', '9', part.exit);
    }
    return part;
  }

  /// Nothing, or a point and digits, so that the fraction lies within the bounds'.
  Part Fraction(const Magnitude& low, const std::optional<Magnitude>& high) {
    const size_t written = std::max(low.fraction.size(), high ? high->fraction.size() : 0);
    const size_t whole = std::max(low.whole.size(), high ? high->whole.size() : 0);
    const size_t exact = kExactDigits - std::min(whole, kExactDigits);
    const size_t most = std::max(written, exact_ ? exact : kMostFractionDigits);
    const Part part = builder_.Never();
    // A state is the number of digits read, and whether they are so far those of either bound.
    using Place = std::tuple<size_t, bool, bool>;
    std::map<Place, State> states;
    std::vector<Place> open;
    const auto state_of = [&](const Place& place) {
      const auto [entry, is_new] = states.try_emplace(place, 0);
      if (is_new) {
        entry->second = builder_.NewState();
        open.push_back(place);
      }
      return entry->second;
    };
    const auto within = [&](const Place& place) {
      const auto [read, at_low, at_high] = place;
      const bool low_ok = !at_low || (read >= low.fraction.size() && !low.excluded);
      return low_ok && (!at_high || read < high->fraction.size() || !high->excluded);
    };
    const auto digit = [](const std::string& digits, size_t i) {
      return i < digits.size() ? digits[i] : '0';
    };
    const Place start{0, true, high.has_value()};
    if (within(start)) builder_.AddEmpty(part.entry, part.exit);
    builder_.AddBytes(part.entry, '.', '.', state_of(start));
    while (!open.empty()) {
      const Place place = open.back();
      open.pop_back();
      const auto [read, at_low, at_high] = place;
      const State from = states.at(place);
      if (read > 0 && within(place)) builder_.AddEmpty(from, part.exit);
      if (read == most) continue;
      const char first = at_low ? digit(low.fraction, read) : '0';
      const char last = at_high ? digit(high->fraction, read) : '9';
      for (char d = first; d <= last; ++d) {
        const auto byte = static_cast<uint8_t>(d);
        const Place next{read + 1, at_low && d == first, at_high && d == last};
        builder_.AddBytes(from, byte, byte, state_of(next));
      }
    }
    return part;
  }

  bool fractions_;
  bool exact_ = false;
  GrammarBuilder& builder_;
};

}  // namespace

Part IntegersBetween(const std::optional<NumberBound>& least,
                     const std::optional<NumberBound>& most, GrammarBuilder* builder) {
  return RangeBuilder(false, builder).Between(least, most);
}

Part NumbersBetween(const std::optional<NumberBound>& least, const std::optional<NumberBound>& most,
                    GrammarBuilder* builder) {
  return RangeBuilder(true, builder).Between(least, most);
}

}  // namespace moxie
