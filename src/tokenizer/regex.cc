#include "tokenizer/regex.h"

#include <algorithm>

namespace moxie {

namespace {

char32_t CharacterAt(std::string_view text, size_t at) { return DecodeUtf8(text, at).code_point; }

size_t PreviousStart(std::string_view text, size_t at) {
  do --at;
  while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80);
  return at;
}

bool WordBefore(std::string_view text, size_t at) {
  return at > 0 && IsWord(CharacterAt(text, PreviousStart(text, at)));
}

bool WordAfter(std::string_view text, size_t at) {
  return at < text.size() && IsWord(CharacterAt(text, at));
}

}  // namespace

void CharacterClass::Finish() {
  for (char32_t c = 0; c < ascii.size(); ++c) ascii[c] = Evaluate(c);
}

bool CharacterClass::Evaluate(char32_t c) const {
  for (const Item& item : items) {
    bool in = false;
    if (item.property != nullptr) {
      in = item.property(c);
    } else if (item.categories != 0) {
      in = IsIn(item.categories, c);
    } else {
      in = item.first <= c && c <= item.last;
    }
    if (in != item.negated) return !negated;
  }
  return negated;
}

/// Where to go on when what follows fails: at `at`, and for a repetition at each character
/// boundary below that down to `floor`.
struct Regex::Frame {
  uint32_t next;
  size_t at;
  size_t floor;
};

int64_t Regex::Budget(size_t text_size) {
  return 1'000'000 + 400 * static_cast<int64_t>(text_size);
}

std::optional<Regex::Match> Regex::FindFrom(std::string_view text, size_t at,
                                            int64_t* budget) const {
  using Kind = Instruction::Kind;
  const Instruction& first = program_.front();
  // A greedy `\s+` at the front that fails from here fails from each place within the same run.
  const bool leads_with_run =
      first.kind == Kind::kRepeat && first.max == UINT32_MAX && first.min <= 1;
  while (at < text.size() && *budget > 0) {
    const std::optional<size_t> end = Run(0, text, at, budget);
    if (end && *end > at) return Match{at, *end};
    const size_t run = leads_with_run ? SkipRun(first, text, at) : at;
    at = run > at ? run : at + CharacterLength(text[at]);
  }
  return std::nullopt;
}

size_t Regex::SkipRun(const Instruction& repeat, std::string_view text, size_t at) const {
  const CharacterClass& set = classes_[repeat.a];
  while (at < text.size()) {
    const DecodedCharacter c = DecodeUtf8(text, at);
    if (!set.Contains(c.code_point)) break;
    at += c.length;
  }
  return at;
}

std::optional<size_t> Regex::Run(uint32_t start, std::string_view text, size_t at,
                                 int64_t* budget) const {
  std::vector<Frame> frames;
  uint32_t next = start;
  for (;;) {
    if (--*budget < 0) return std::nullopt;
    const Instruction& instruction = program_[next++];
    if (instruction.kind == Instruction::Kind::kMatch) return at;
    if (Step(instruction, text, &at, &frames, &next, budget)) continue;
    if (frames.empty()) return std::nullopt;
    Frame& frame = frames.back();
    at = frame.at;
    next = frame.next;
    if (frame.at > frame.floor) {
      frame.at = PreviousStart(text, frame.at);
    } else {
      frames.pop_back();
    }
  }
}

bool Regex::Step(const Instruction& instruction, std::string_view text, size_t* at,
                 std::vector<Frame>* frames, uint32_t* next, int64_t* budget) const {
  using Kind = Instruction::Kind;
  switch (instruction.kind) {
    case Kind::kClass: {
      if (*at >= text.size()) return false;
      const DecodedCharacter c = DecodeUtf8(text, *at);
      *at += c.length;
      return classes_[instruction.a].Contains(c.code_point);
    }
    case Kind::kRepeat: {
      const CharacterClass& set = classes_[instruction.a];
      uint32_t count = 0;
      size_t end = *at;
      size_t floor = *at;
      while (count < instruction.max && end < text.size()) {
        const DecodedCharacter c = DecodeUtf8(text, end);
        if (!set.Contains(c.code_point)) break;
        end += c.length;
        if (++count == instruction.min) floor = end;
      }
      *budget -= count;
      if (count < instruction.min) return false;
      const bool possessive = instruction.b != 0;
      if (end > floor && !possessive) frames->push_back({*next, PreviousStart(text, end), floor});
      *at = end;
      return true;
    }
    case Kind::kSplit:
      frames->push_back({instruction.b, *at, *at});
      *next = instruction.a;
      return true;
    case Kind::kJump:
      *next = instruction.a;
      return true;
    case Kind::kLook:
    case Kind::kLookBehind:
    case Kind::kAtomic: {
      const uint32_t body = *next;
      *next = instruction.a;
      return Look(instruction, body, text, at, budget);
    }
    default:
      return Holds(instruction.kind, text, *at);
  }
}

bool Regex::Look(const Instruction& instruction, uint32_t body, std::string_view text, size_t* at,
                 int64_t* budget) const {
  const bool negative = instruction.b != 0;
  size_t from = *at;
  for (uint32_t i = 0; i < instruction.min; ++i) {
    if (from == 0) return negative;
    from = PreviousStart(text, from);
  }
  const std::optional<size_t> end = Run(body, text, from, budget);
  if (instruction.kind == Instruction::Kind::kAtomic) {
    if (end) *at = *end;
    return end.has_value();
  }
  return end.has_value() != negative;
}

bool Regex::Holds(Instruction::Kind anchor, std::string_view text, size_t at) const {
  using Kind = Instruction::Kind;
  switch (anchor) {
    case Kind::kLineStart:
      return at == 0 || (text[at - 1] == '\n' && at < text.size());
    case Kind::kLineEnd:
      return at == text.size() || text[at] == '\n';
    case Kind::kTextStart:
      return at == 0;
    case Kind::kTextEnd:
      return at == text.size();
    case Kind::kWordBoundary:
      return WordBefore(text, at) != WordAfter(text, at);
    case Kind::kNotWordBoundary:
      return WordBefore(text, at) == WordAfter(text, at);
    default:
      return false;
  }
}

}  // namespace moxie
