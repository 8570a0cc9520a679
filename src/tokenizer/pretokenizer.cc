#include "tokenizer/pretokenizer.h"

#include <algorithm>

#include "tokenizer/normalizer.h"

namespace moxie {

namespace {

using Kind = PreTokenizerStep::Kind;
using Behavior = PreTokenizerStep::Behavior;

struct Segment {
  size_t begin;
  size_t end;
  bool match;
};

/// Matches and the gaps between them, covering the text.
class Segments {
 public:
  explicit Segments(std::string_view text) : text_(text) {}

  void AddMatch(size_t begin, size_t end) {
    if (begin > covered_) list_.push_back({covered_, begin, false});
    list_.push_back({begin, end, true});
    covered_ = end;
  }
  std::vector<Segment> Take() {
    if (covered_ < text_.size()) list_.push_back({covered_, text_.size(), false});
    return std::move(list_);
  }

 private:
  std::string_view text_;
  size_t covered_ = 0;
  std::vector<Segment> list_;
};

template <class Predicate>
std::vector<Segment> MatchCharacters(std::string_view text, Predicate predicate) {
  Segments segments(text);
  for (size_t at = 0; at < text.size();) {
    const DecodedCharacter c = DecodeUtf8(text, at);
    if (predicate(c.code_point)) segments.AddMatch(at, at + c.length);
    at += c.length;
  }
  return segments.Take();
}

std::vector<Segment> MatchRegex(std::string_view text, const Regex& regex) {
  Segments segments(text);
  regex.ForEachMatch(text, [&](size_t begin, size_t end) { segments.AddMatch(begin, end); });
  return segments.Take();
}

std::vector<Segment> MatchLiteral(std::string_view text, std::string_view literal) {
  Segments segments(text);
  for (size_t at = 0; !literal.empty();) {
    at = text.find(literal, at);
    if (at == std::string_view::npos) break;
    segments.AddMatch(at, at + literal.size());
    at += literal.size();
  }
  return segments.Take();
}

bool IsPunctuation(char32_t c) {
  const bool ascii = (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') ||
                     (c >= '{' && c <= '~');
  return ascii || IsIn(kPunctuations, c);
}

std::vector<Segment> MatchStep(const PreTokenizerStep& step, std::string_view text) {
  switch (step.kind) {
    case Kind::kDigits:
      return MatchCharacters(text, [](char32_t c) { return IsIn(kNumbers, c); });
    case Kind::kWhitespaceSplit:
      return MatchCharacters(text, IsWhitespace);
    case Kind::kPunctuation:
      return MatchCharacters(text, IsPunctuation);
    default:
      return step.regex != nullptr ? MatchRegex(text, *step.regex) : MatchLiteral(text, step.text);
  }
}

/// Joins segments as the behaviour says; what remains marked is removed.
void ApplyBehavior(Behavior behavior, std::vector<Segment>* segments) {
  std::vector<Segment> joined;
  joined.reserve(segments->size());
  bool after_match = false;
  const auto join = [&](const Segment& segment, bool with_last) {
    if (with_last && !joined.empty()) {
      joined.back().begin = std::min(joined.back().begin, segment.begin);
      joined.back().end = std::max(joined.back().end, segment.end);
    } else {
      joined.push_back({segment.begin, segment.end, false});
    }
    after_match = segment.match;
  };
  switch (behavior) {
    case Behavior::kRemoved:
      return;
    case Behavior::kIsolated:
      for (Segment& segment : *segments) segment.match = false;
      return;
    case Behavior::kContiguous:
      for (const Segment& segment : *segments) join(segment, segment.match == after_match);
      break;
    case Behavior::kMergedWithPrevious:
      for (const Segment& segment : *segments) join(segment, segment.match && !after_match);
      break;
    case Behavior::kMergedWithNext:
      for (size_t i = segments->size(); i-- > 0;) {
        join((*segments)[i], (*segments)[i].match && !after_match);
      }
      std::reverse(joined.begin(), joined.end());
      break;
  }
  *segments = std::move(joined);
}

std::shared_ptr<const Regex> CompileOwn(std::string_view pattern) {
  Result<Regex> regex = Regex::Compile(pattern);
  MOXIE_CHECK(regex.has_value());
  return std::make_shared<const Regex>(std::move(regex).value());
}

}  // namespace

PreTokenizer::PreTokenizer(std::vector<PreTokenizerStep> steps) : steps_(std::move(steps)) {
  for (const PreTokenizerStep& step : steps_) {
    if (step.kind == Kind::kByteLevel && step.use_regex) gpt2_ = CompileOwn(kGpt2Pattern);
    if (step.kind == Kind::kWhitespace) words_ = CompileOwn(R"(\w+|[^\w\s]+)");
  }
}

void PreTokenizer::Apply(std::string_view text, bool at_start,
                         FunctionRef<void(std::string_view)> word) const {
  ApplyFrom(0, text, at_start, word);
}

// Depth first: the words come in order, and no step holds more than its own cuts.
void PreTokenizer::ApplyFrom(size_t index, std::string_view text, bool at_start, Words word) const {
  if (text.empty()) return;
  if (index == steps_.size()) {
    word(text);
    return;
  }
  const PreTokenizerStep& step = steps_[index];
  const char* const begin = text.data();
  const auto next = [&](std::string_view part) {
    ApplyFrom(index + 1, part, at_start && part.data() == begin, word);
  };
  if (step.kind == Kind::kMetaspace) {
    const auto next_rewritten = [&](std::string_view part) {
      ApplyFrom(index + 1, part, false, word);
    };
    CutMetaspace(step, text, at_start, next_rewritten);
  } else if (step.kind == Kind::kByteLevel) {
    std::string prefixed;
    if (step.prepend != PreTokenizerStep::Prepend::kNever && text.front() != ' ') {
      prefixed = " " + std::string(text);
      text = prefixed;
    }
    const auto next_mapped = [&](std::string_view part) {
      ApplyFrom(index + 1, BytesToCharacters(part), at_start && part.data() == text.data(), word);
    };
    if (step.use_regex) {
      for (const Segment& segment : MatchRegex(text, *gpt2_)) {
        next_mapped(text.substr(segment.begin, segment.end - segment.begin));
      }
    } else {
      next_mapped(text);
    }
  } else {
    Cut(step, text, next);
  }
}

void PreTokenizer::Cut(const PreTokenizerStep& step, std::string_view text, Words word) const {
  Behavior behavior = step.behavior;
  std::vector<Segment> segments;
  if (step.kind == Kind::kWhitespace) {
    segments = MatchRegex(text, *words_);
    for (Segment& segment : segments) segment.match = !segment.match;
    behavior = Behavior::kRemoved;
  } else {
    segments = MatchStep(step, text);
    if (step.kind == Kind::kWhitespaceSplit) behavior = Behavior::kRemoved;
    if (step.kind == Kind::kDigits) {
      behavior = step.individual ? Behavior::kIsolated : Behavior::kContiguous;
    }
    if (step.kind == Kind::kSplit && step.invert) {
      for (Segment& segment : segments) segment.match = !segment.match;
    }
  }
  ApplyBehavior(behavior, &segments);
  for (const Segment& segment : segments) {
    if (!segment.match) word(text.substr(segment.begin, segment.end - segment.begin));
  }
}

void PreTokenizer::CutMetaspace(const PreTokenizerStep& step, std::string_view text, bool at_start,
                                Words word) const {
  using Prepend = PreTokenizerStep::Prepend;
  std::string rewritten = ReplaceAll(text, " ", step.text);
  const bool prepend =
      step.prepend == Prepend::kAlways || (step.prepend == Prepend::kFirst && at_start);
  if (prepend && !rewritten.starts_with(step.text)) rewritten.insert(0, step.text);
  if (!step.split) {
    word(rewritten);
    return;
  }
  std::vector<Segment> segments = MatchLiteral(rewritten, step.text);
  ApplyBehavior(Behavior::kMergedWithNext, &segments);
  for (const Segment& segment : segments) {
    word(std::string_view(rewritten).substr(segment.begin, segment.end - segment.begin));
  }
}

}  // namespace moxie
