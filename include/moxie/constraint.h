#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "moxie/result.h"
#include "moxie/tokenizer.h"

namespace moxie {

/// What an answer must look like: a language of texts, compiled for one tokenizer. While an answer
/// is generated, only tokens are allowed that lead to a text of the language, and a token that ends
/// the answer only where such a text is complete. So an answer that ends by itself (kStop) is
/// always in the language, and one cut short (kLength) is the beginning of one.
///
/// Immutable but for a bounded cache of token masks; safe to share between requests and threads.
class Constraint {
 public:
  struct Impl;
  explicit Constraint(std::unique_ptr<Impl> impl);
  ~Constraint();
  Constraint(const Constraint&) = delete;
  Constraint& operator=(const Constraint&) = delete;

  const Impl& impl() const { return *impl_; }  ///< for the library itself

 private:
  std::unique_ptr<Impl> impl_;
};

using ConstraintPtr = std::shared_ptr<const Constraint>;

struct JsonSchemaOptions {
  /// What an object schema without `additionalProperties` allows beside its `properties`: anything,
  /// which is the standard's rule, or nothing.
  bool additional_properties = true;
  /// Spaces and line breaks where JSON allows them (one space, or a line break and up to 64 spaces
  /// or tabs); else none at all.
  bool whitespace = true;
};

/// How a model writes tool calls. The marks are special tokens where the vocabulary has them so,
/// else text.
enum class ToolCallFormat : uint8_t {
  kMistral,  ///< [TOOL_CALLS][{"name": ..., "arguments": {...}}, ...]; a call may end with an "id"
             ///< of nine letters or digits
  kLlama3,   ///< {"name": ..., "parameters": {...}}, one alone, perhaps after <|python_tag|>
  kHermes,   ///< <tool_call>\n{"name": ..., "arguments": {...}}\n</tool_call>, once or more often
  kGeneric,  ///< [{"name": ..., "arguments": {...}}, ...], nothing before or after it
};

struct ToolCallOptions {
  ToolCallFormat format = ToolCallFormat::kGeneric;
  /// "auto": text, then perhaps calls (in the formats without a mark one or the other); "required":
  /// calls; "none": text without a call; or the name of the one function to call.
  std::string choice = "auto";
  bool parallel = true;  ///< whether there may be more than one call
};

/// Compiles constraints for one tokenizer. The first one takes a moment longer: the vocabulary's
/// trie is built then, and shared by all. Safe to use concurrently.
///
/// Errors of all: kInvalidInput for a malformed description, one that no text satisfies, and one
/// over a limit (nesting, size, states of the automaton); kUnsupported for a feature that moxie
/// lacks, which is named.
class ConstraintCompiler {
 public:
  /// `tokenizer` must outlive the compiler and its constraints.
  explicit ConstraintCompiler(const Tokenizer& tokenizer);
  ~ConstraintCompiler();
  ConstraintCompiler(const ConstraintCompiler&) = delete;
  ConstraintCompiler& operator=(const ConstraintCompiler&) = delete;

  /// JSON that satisfies a JSON schema (draft 2020-12; docs/constrained.md lists the keywords).
  /// Properties come in the schema's order. A keyword that restricts and is not supported is an
  /// error that names it.
  Result<ConstraintPtr> JsonSchema(std::string_view schema,
                                   const JsonSchemaOptions& options = {}) const;

  /// Any JSON object.
  Result<ConstraintPtr> JsonObject() const { return JsonSchema(R"({"type":"object"})"); }

  /// The whole answer matches the regular expression (RE2's notation without what cannot be decided
  /// in linear time: no back references, no looking around).
  Result<ConstraintPtr> Regex(std::string_view pattern) const;

  /// The answer is one of the texts.
  Result<ConstraintPtr> Choice(const std::vector<std::string>& choices) const;

  /// A grammar in llama.cpp's notation, from its rule `root` on.
  Result<ConstraintPtr> Gbnf(std::string_view grammar) const;

  /// Calls of the functions of `tools` (OpenAI's array of {"type": "function", "function": {"name",
  /// "parameters"}}), with arguments that satisfy their schemas; objects without
  /// `additionalProperties` take none.
  Result<ConstraintPtr> ToolCalls(std::string_view tools, const ToolCallOptions& options) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// How far one answer under a constraint has come. Not thread-safe.
class ConstraintState {
 public:
  explicit ConstraintState(ConstraintPtr constraint);
  ~ConstraintState();
  ConstraintState(ConstraintState&&) noexcept;
  ConstraintState& operator=(ConstraintState&&) noexcept;

  /// The tokens that may come next: bit id % 64 of word id / 64; ids beyond it may not. Tokens that
  /// end a turn are among them where the answer may end here. None where the answer cannot go on:
  /// it is nested more than 1,000 deep, or the vocabulary has no token for the next character.
  /// Valid until the next call.
  ///
  /// Errors: kInvalidInput where the grammar is so ambiguous that this would take too long.
  Result<std::span<const uint64_t>> Mask();

  /// Takes the next token. False, and no change, where the mask does not hold it; a token that ends
  /// a turn changes nothing.
  bool Advance(TokenId token);

  bool can_end() const;   ///< whether the text so far is complete
  bool must_end() const;  ///< whether it is complete and nothing can follow

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace moxie
