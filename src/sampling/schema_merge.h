#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "moxie/result.h"

namespace moxie {

using SchemaJson = nlohmann::ordered_json;

/// An error at a place of a schema, given as a JSON pointer.
Error SchemaError(ErrorCode code, const std::string& where, const std::string& what);

/// Whether a keyword restricts instances. Those of the standard that only describe do not, nor do
/// names that the standard does not know.
bool Restricts(std::string_view keyword);

/// The types an instance may have: `type`, or what the other keywords speak of (a schema with
/// `properties` is one of objects), or the values of `enum`; all of them where nothing says.
///
/// Errors: kInvalidInput for a malformed `type`.
Result<std::vector<std::string>> TypesOf(const SchemaJson& schema, const std::string& where);

/// The type that JSON Schema gives a value: an integer is one whatever its notation.
std::string TypeOfValue(const SchemaJson& value);

/// Finds what `$ref`s mean, and joins schemas that hold at once into one.
class SchemaMerger {
 public:
  /// `root` must outlive the merger.
  explicit SchemaMerger(const SchemaJson& root) : root_(root) {}

  /// The schema that a reference within the same document names: "#", "#/pointer" or "#anchor".
  Result<const SchemaJson*> Resolve(const std::string& reference, const std::string& where) const;

  /// A schema without `$ref` and `allOf` at its top, equal in meaning.
  Result<SchemaJson> Flatten(const SchemaJson& schema, const std::string& where);

  /// What satisfies both.
  ///
  /// Errors: kUnsupported where two keywords cannot be joined, such as two different patterns.
  Result<SchemaJson> Merge(const SchemaJson& a, const SchemaJson& b, const std::string& where);

  /// Whether it is certain that no instance that is made for `a` satisfies `b`: where `a` says no
  /// type, those of TypesOf are made. (It may be that none does, and this says no.)
  Result<bool> AreDisjoint(const SchemaJson& a, const SchemaJson& b, const std::string& where);

 private:
  Result<SchemaJson> FlattenAt(const SchemaJson& schema, const std::string& where, int depth);
  Result<SchemaJson> MergeAt(const SchemaJson& a, const SchemaJson& b, const std::string& where);
  Result<void> MergeKeyword(const std::string& keyword, const SchemaJson& value, SchemaJson* into,
                            const std::string& where);
  Result<bool> Disjoint(const SchemaJson& a, const SchemaJson& b, const std::string& where,
                        int depth);
  Result<bool> PropertiesDisjoint(const SchemaJson& a, const SchemaJson& b,
                                  const std::string& where, int depth);
  Result<void> CountStep(const std::string& where);

  const SchemaJson& root_;
  int steps_ = 0;
};

}  // namespace moxie
