#include "tokenizer/json_steps.h"

#include <map>
#include <string>

#include "tokenizer/base64.h"
#include "tokenizer/json_fields.h"

namespace moxie {

namespace {

using nlohmann::json;

constexpr int kMaxDepth = 20;

/// What `pattern` members hold: {"String": ...} or {"Regex": ...}.
struct Pattern {
  std::string literal;
  std::shared_ptr<const Regex> regex;
};

Result<Pattern> ParsePattern(const json& step) {
  const json* member = FindMember(step, "pattern");
  if (member == nullptr) return WrongType("pattern", "an object with String or Regex");
  Pattern pattern;
  MOXIE_TRY_ASSIGN(pattern.literal, TextOr(*member, "String", ""));
  MOXIE_TRY_ASSIGN(const std::string regex, TextOr(*member, "Regex", ""));
  if (regex.empty() == pattern.literal.empty()) {
    return WrongType("pattern", "either a String or a Regex, not empty");
  }
  if (!regex.empty()) {
    MOXIE_TRY_ASSIGN(Regex compiled, Regex::Compile(regex));
    pattern.regex = std::make_shared<const Regex>(std::move(compiled));
  }
  return pattern;
}

Error UnknownType(const char* what, const std::string& type) {
  return Error{ErrorCode::kUnsupported,
               std::string(what) + ": type \"" + type.substr(0, 60) + "\" is not supported"};
}

/// Calls `step` for `json`, or for each of the members in the array `list` of a Sequence.
template <class Step>
Result<void> ForEachStep(const json* json_step, const char* list, int depth, const Step& step) {
  if (json_step == nullptr || json_step->is_null()) return {};
  MOXIE_TRY_ASSIGN(const std::string type, TextOr(*json_step, "type", ""));
  if (type != "Sequence") return step(*json_step, type);
  if (depth > kMaxDepth) return WrongType(list, "at most 20 levels of sequences");
  MOXIE_TRY_ASSIGN(const json* members, ArrayOr(*json_step, list));
  for (const json& member : *members) MOXIE_TRY(ForEachStep(&member, list, depth + 1, step));
  return {};
}

Result<NormalizerStep> ParseNormalizerStep(const json& member, const std::string& type) {
  using Kind = NormalizerStep::Kind;
  static const std::map<std::string, Kind> kKinds = {{"NFC", Kind::kNfc},
                                                     {"NFD", Kind::kNfd},
                                                     {"NFKC", Kind::kNfkc},
                                                     {"NFKD", Kind::kNfkd},
                                                     {"Lowercase", Kind::kLowercase},
                                                     {"StripAccents", Kind::kStripAccents},
                                                     {"Strip", Kind::kStrip},
                                                     {"Prepend", Kind::kPrepend},
                                                     {"Replace", Kind::kReplace},
                                                     {"Precompiled", Kind::kPrecompiled},
                                                     {"Nmt", Kind::kNmt},
                                                     {"ByteLevel", Kind::kByteLevel}};
  const auto kind = kKinds.find(type);
  if (kind == kKinds.end()) return UnknownType("normalizer", type);
  NormalizerStep step;
  step.kind = kind->second;
  if (step.kind == Kind::kStrip) {
    MOXIE_TRY_ASSIGN(step.strip_left, BoolOr(member, "strip_left", true));
    MOXIE_TRY_ASSIGN(step.strip_right, BoolOr(member, "strip_right", true));
  } else if (step.kind == Kind::kPrepend) {
    MOXIE_TRY_ASSIGN(step.text, TextOr(member, "prepend", ""));
  } else if (step.kind == Kind::kReplace) {
    MOXIE_TRY_ASSIGN(step.text, TextOr(member, "content", ""));
    MOXIE_TRY_ASSIGN(Pattern pattern, ParsePattern(member));
    step.pattern = std::move(pattern.literal);
    step.regex = std::move(pattern.regex);
  } else if (step.kind == Kind::kPrecompiled) {
    MOXIE_TRY_ASSIGN(const std::string blob, TextOr(member, "precompiled_charsmap", ""));
    MOXIE_TRY_ASSIGN(const std::string bytes, DecodeBase64(blob, "precompiled_charsmap"));
    MOXIE_TRY_ASSIGN(CharsMap map, CharsMap::Parse(bytes));
    step.chars_map = std::make_shared<const CharsMap>(std::move(map));
  }
  return step;
}

Result<PreTokenizerStep::Behavior> ParseBehavior(const json& member, std::string_view fallback) {
  using Behavior = PreTokenizerStep::Behavior;
  MOXIE_TRY_ASSIGN(const std::string name, TextOr(member, "behavior", fallback));
  if (name == "Removed") return Behavior::kRemoved;
  if (name == "Isolated") return Behavior::kIsolated;
  if (name == "MergedWithPrevious") return Behavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return Behavior::kMergedWithNext;
  if (name == "Contiguous") return Behavior::kContiguous;
  return UnknownType("behavior", name);
}

Result<PreTokenizerStep> ParseMetaspace(const json& member) {
  using Prepend = PreTokenizerStep::Prepend;
  PreTokenizerStep step{.kind = PreTokenizerStep::Kind::kMetaspace};
  MOXIE_TRY_ASSIGN(step.text, TextOr(member, "replacement", "\xE2\x96\x81"));
  MOXIE_TRY_ASSIGN(step.split, BoolOr(member, "split", true));
  MOXIE_TRY_ASSIGN(const bool prefix, BoolOr(member, "add_prefix_space", true));
  MOXIE_TRY_ASSIGN(const std::string scheme,
                   TextOr(member, "prepend_scheme", prefix ? "always" : "never"));
  if (step.text.empty()) return WrongType("replacement", "a character");
  if (scheme == "always") {
    step.prepend = Prepend::kAlways;
  } else if (scheme == "first") {
    step.prepend = Prepend::kFirst;
  } else if (scheme != "never") {
    return UnknownType("prepend_scheme", scheme);
  }
  return step;
}

Result<PreTokenizerStep> ParsePreTokenizerStep(const json& member, const std::string& type) {
  using Kind = PreTokenizerStep::Kind;
  if (type == "Metaspace") return ParseMetaspace(member);
  PreTokenizerStep step;
  if (type == "Split") {
    MOXIE_TRY_ASSIGN(Pattern pattern, ParsePattern(member));
    step.text = std::move(pattern.literal);
    step.regex = std::move(pattern.regex);
    MOXIE_TRY_ASSIGN(step.behavior, ParseBehavior(member, "Isolated"));
    MOXIE_TRY_ASSIGN(step.invert, BoolOr(member, "invert", false));
  } else if (type == "ByteLevel") {
    step.kind = Kind::kByteLevel;
    MOXIE_TRY_ASSIGN(const bool prefix, BoolOr(member, "add_prefix_space", true));
    if (prefix) step.prepend = PreTokenizerStep::Prepend::kAlways;
    MOXIE_TRY_ASSIGN(step.use_regex, BoolOr(member, "use_regex", true));
  } else if (type == "Digits") {
    step.kind = Kind::kDigits;
    MOXIE_TRY_ASSIGN(step.individual, BoolOr(member, "individual_digits", false));
  } else if (type == "Whitespace") {
    step.kind = Kind::kWhitespace;
  } else if (type == "WhitespaceSplit") {
    step.kind = Kind::kWhitespaceSplit;
  } else if (type == "Punctuation") {
    step.kind = Kind::kPunctuation;
    MOXIE_TRY_ASSIGN(step.behavior, ParseBehavior(member, "Isolated"));
  } else if (type == "CharDelimiterSplit") {
    step.behavior = PreTokenizerStep::Behavior::kRemoved;
    MOXIE_TRY_ASSIGN(step.text, TextOr(member, "delimiter", " "));
  } else {
    return UnknownType("pre_tokenizer", type);
  }
  return step;
}

Result<DecoderStep> ParseDecoderStep(const json& member, const std::string& type) {
  using Kind = DecoderStep::Kind;
  DecoderStep step{};
  if (type == "ByteLevel") {
    step.kind = Kind::kByteLevel;
  } else if (type == "ByteFallback") {
    step.kind = Kind::kByteFallback;
  } else if (type == "Fuse") {
    step.kind = Kind::kFuse;
  } else if (type == "Metaspace") {
    MOXIE_TRY_ASSIGN(const PreTokenizerStep metaspace, ParseMetaspace(member));
    step.kind = Kind::kMetaspace;
    step.pattern = metaspace.text;
    step.strips_first = metaspace.prepend != PreTokenizerStep::Prepend::kNever;
  } else if (type == "Replace") {
    step.kind = Kind::kReplace;
    MOXIE_TRY_ASSIGN(step.text, TextOr(member, "content", ""));
    MOXIE_TRY_ASSIGN(Pattern pattern, ParsePattern(member));
    step.pattern = std::move(pattern.literal);
    step.regex = std::move(pattern.regex);
  } else if (type == "Strip") {
    step.kind = Kind::kStrip;
    MOXIE_TRY_ASSIGN(step.text, TextOr(member, "content", " "));
    MOXIE_TRY_ASSIGN(const int64_t start, IntegerOr(member, "start", 0));
    MOXIE_TRY_ASSIGN(const int64_t stop, IntegerOr(member, "stop", 0));
    if (step.text.empty() || start < 0 || stop < 0) {
      return WrongType("Strip", "a character and counts of at least 0");
    }
    step.start = static_cast<size_t>(start);
    step.stop = static_cast<size_t>(stop);
  } else {
    return UnknownType("decoder", type);
  }
  return step;
}

}  // namespace

Result<Normalizer> ParseNormalizer(const json* member) {
  Normalizer steps;
  MOXIE_TRY(ForEachStep(member, "normalizers", 0,
                        [&](const json& step, const std::string& type) -> Result<void> {
                          MOXIE_TRY_ASSIGN(NormalizerStep parsed, ParseNormalizerStep(step, type));
                          steps.push_back(std::move(parsed));
                          return {};
                        }));
  return steps;
}

Result<std::vector<PreTokenizerStep>> ParsePreTokenizer(const json* member) {
  std::vector<PreTokenizerStep> steps;
  MOXIE_TRY(ForEachStep(
      member, "pretokenizers", 0, [&](const json& step, const std::string& type) -> Result<void> {
        MOXIE_TRY_ASSIGN(PreTokenizerStep parsed, ParsePreTokenizerStep(step, type));
        steps.push_back(std::move(parsed));
        return {};
      }));
  return steps;
}

Result<std::vector<DecoderStep>> ParseDecoder(const json* member) {
  std::vector<DecoderStep> steps;
  MOXIE_TRY(ForEachStep(member, "decoders", 0,
                        [&](const json& step, const std::string& type) -> Result<void> {
                          MOXIE_TRY_ASSIGN(DecoderStep parsed, ParseDecoderStep(step, type));
                          steps.push_back(std::move(parsed));
                          return {};
                        }));
  return steps;
}

}  // namespace moxie
