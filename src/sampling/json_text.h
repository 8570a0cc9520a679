#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "moxie/constraint.h"
#include "sampling/grammar.h"

namespace moxie {

/// The pieces of JSON texts (RFC 8259) as parts of a grammar. Rules are made when first asked for.
class JsonText {
 public:
  using Part = GrammarBuilder::Part;
  using Rule = GrammarBuilder::Rule;
  using State = GrammarBuilder::State;

  JsonText(GrammarBuilder* builder, bool whitespace) : builder_(*builder), spaced_(whitespace) {}

  /// What may stand between two tokens: nothing, a space, or a line break and an indentation.
  Part Space();
  Rule Separator();  ///< a comma, with Space around it

  Rule AnyValue();
  Rule AnyObject();
  Rule AnyArray();
  Rule AnyString() { return StringOf(0, kUnboundedRepeat); }
  /// A string of `min` to `max` characters; each may be escaped in any way, but half a surrogate
  /// pair may not.
  Rule StringOf(uint32_t min, uint32_t max);
  /// Up to 30 digits before and after the point, or one before it and an exponent up to 307.
  Rule AnyNumber();
  Rule AnyInteger();

  /// A value as a text; strings and numbers as nlohmann writes them, with Space where it may be.
  Part Value(const nlohmann::ordered_json& value);
  /// A quoted string that is none of `names`. Its characters stand for themselves, but for those
  /// that JSON demands to be escaped.
  Part StringOtherThan(std::vector<std::string> names);
  /// One character of the ranges within a string, written so.
  void AddCharacters(State from, std::span<const CodePointRange> ranges, State to);

  Part Array(Part items);     ///< [ items ]
  Part Object(Part members);  ///< { members }
  Part Member(Part key, Part value);

  GrammarBuilder& builder() { return builder_; }

 private:
  Rule Character();
  Part Digits(uint32_t min, uint32_t max);

  GrammarBuilder& builder_;
  bool spaced_;
  std::optional<Rule> space_, separator_, character_, value_, object_, array_, number_, integer_;
};

}  // namespace moxie
