#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "formats/gguf.h"
#include "formats/model_files.h"
#include "moxie/result.h"

namespace moxie {

/// How each layout spells one setting; empty where a layout has no such key. Hugging Face folders
/// know up to three spellings. Nested JSON objects are spelled with dots: "rope_scaling.factor".
struct Key {
  std::array<std::string_view, 3> hugging_face;
  std::string_view gguf = {};  ///< without the architecture's prefix
  std::string_view consolidated = {};
};

/// The whole numbers a setting may have, both ends included, and the setting that limits them.
struct Range {
  int64_t min = 0;
  int64_t max = 0;
  std::string_view because = {};
};

/// One value of a configuration. Objects appear as their members under dotted names.
struct SettingValue {
  enum class Kind : uint8_t { kNull, kBoolean, kInteger, kNumber, kText, kList, kObject };
  Kind kind = Kind::kNull;
  bool boolean = false;
  int64_t integer = 0;
  double number = 0;  ///< of kInteger, too
  std::string text;
  std::vector<SettingValue> list;  ///< scalars only

  std::string Shown() const;  ///< for messages: short, one line
};

/// A model's settings, whatever file they came from, with look-ups that check kind and range.
///
/// Every look-up fails with one sentence: `config.json: num_experts_per_tok is 9, but must be 1..8
/// (num_local_experts)`. A null counts as absent. Two spellings of one setting that contradict each
/// other are an error. Immutable after construction, so safe to share between threads.
class Settings {
 public:
  /// Reads a JSON object (config.json, params.json, adapter_config.json). `where` starts messages.
  /// Limits: 8 MiB, 32 levels, 65536 values.
  static Result<Settings> FromJson(std::string_view json, std::string where, FileLayout layout);

  /// Takes over a GGUF's keys of its architecture (and general.*).
  static Result<Settings> FromGguf(const GgufMetadata& metadata, std::string where);

  const std::string& where() const { return where_; }
  FileLayout layout() const { return layout_; }
  const std::string& architecture() const { return architecture_; }  ///< of a GGUF, else empty
  const std::map<std::string, SettingValue, std::less<>>& values() const { return values_; }

  /// The setting's name in this layout: the one that is present, else the first spelling.
  std::string Name(const Key& key) const;
  bool Has(const Key& key) const;

  /// The value, or null where it is absent.
  Result<const SettingValue*> Find(const Key& key) const;

  Result<int64_t> Integer(const Key& key, Range range) const;
  Result<int64_t> IntegerOr(const Key& key, Range range, int64_t fallback) const;
  Result<double> Number(const Key& key, double min, double max) const;
  Result<double> NumberOr(const Key& key, double min, double max, double fallback) const;
  Result<bool> BooleanOr(const Key& key, bool fallback) const;
  Result<std::string> TextOr(const Key& key, std::string_view fallback) const;
  Result<std::vector<std::string>> TextsOr(const Key& key, std::vector<std::string> fallback) const;
  Result<std::vector<int64_t>> IntegersOr(const Key& key, Range range,
                                          std::vector<int64_t> fallback) const;

  /// `WHERE: NAME is VALUE, but EXPECTED` ("is missing" where absent).
  Error Invalid(const Key& key, std::string_view expected) const;
  Error Unsupported(const Key& key, std::string_view expected) const;

 private:
  Settings() = default;

  Error Complain(ErrorCode code, const Key& key, std::string_view expected) const;

  std::string where_;
  FileLayout layout_ = FileLayout::kHuggingFace;
  std::string architecture_;
  std::map<std::string, SettingValue, std::less<>> values_;
};

}  // namespace moxie
