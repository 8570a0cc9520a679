#include "model/settings.h"

#include <charconv>
#include <cmath>
#include <limits>
#include <type_traits>
#include <utility>
#include <variant>

#include "core/printable.h"

namespace moxie {
namespace {

using Kind = SettingValue::Kind;

constexpr size_t kShownText = 60;
constexpr size_t kMaxList = 4096;  // GGUF has lists by layer only.

std::string ShowNumber(double number) {
  char buffer[32];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, number);
  return std::string(buffer, end.ptr);
}

bool Same(const SettingValue& a, const SettingValue& b) {
  const bool numbers = (a.kind == Kind::kInteger || a.kind == Kind::kNumber) &&
                       (b.kind == Kind::kInteger || b.kind == Kind::kNumber);
  if (numbers) return a.number == b.number;
  if (a.kind != b.kind || a.boolean != b.boolean || a.text != b.text) return false;
  if (a.list.size() != b.list.size()) return false;
  for (size_t i = 0; i < a.list.size(); ++i) {
    if (!Same(a.list[i], b.list[i])) return false;
  }
  return true;
}

/// The value as a whole number: integers, and numbers such as 8192.0.
std::optional<int64_t> WholeNumber(const SettingValue& value) {
  if (value.kind == Kind::kInteger) return value.integer;
  const bool whole = value.kind == Kind::kNumber && std::trunc(value.number) == value.number &&
                     std::fabs(value.number) <= 0x1p53;
  if (!whole) return std::nullopt;
  return static_cast<int64_t>(value.number);
}

/// A GGUF's list that repeats one value for every layer stands for that value.
const SettingValue& Uniform(const SettingValue& value) {
  if (value.kind != Kind::kList || value.list.empty()) return value;
  for (const SettingValue& item : value.list) {
    if (!Same(item, value.list.front())) return value;
  }
  return value.list.front();
}

std::string Describe(Range range) {
  std::string text = "must be " + std::to_string(range.min) + ".." + std::to_string(range.max);
  if (!range.because.empty()) text += " (" + std::string(range.because) + ")";
  return text;
}

template <class T>
SettingValue FromScalar(const T& value) {
  SettingValue setting;
  if constexpr (std::is_same_v<T, bool>) {
    setting.kind = Kind::kBoolean;
    setting.boolean = value;
  } else if constexpr (std::is_same_v<T, std::string>) {
    setting.kind = Kind::kText;
    setting.text = value;
  } else {
    setting.kind = Kind::kNumber;
    setting.number = static_cast<double>(value);
    if constexpr (std::is_integral_v<T>) {
      // Integers beyond int64 are none that any setting may have.
      if (std::in_range<int64_t>(value)) {
        setting.kind = Kind::kInteger;
        setting.integer = static_cast<int64_t>(+value);  // Promoted: 8 bits are a character.
      }
    }
  }
  return setting;
}

SettingValue FromArray(const GgufArray& array) {
  SettingValue setting;
  setting.kind = Kind::kList;
  std::visit(
      [&setting](const auto& items) {
        using Items = std::remove_cvref_t<decltype(items)>;
        if constexpr (!std::is_same_v<Items, std::monostate>) {
          // Beyond the limit a list is kept as empty: no setting is that long.
          if (items.size() > kMaxList) return;
          for (const auto& item : items) {
            setting.list.push_back(FromScalar(item));
          }
        }
      },
      array);
  return setting;
}

SettingValue FromValue(const GgufValue& value) {
  return std::visit(
      [](const auto& v) {
        if constexpr (std::is_same_v<std::remove_cvref_t<decltype(v)>, GgufArray>) {
          return FromArray(v);
        } else {
          return FromScalar(v);
        }
      },
      value);
}

}  // namespace

std::string SettingValue::Shown() const {
  switch (kind) {
    case Kind::kNull:
      return "null";
    case Kind::kBoolean:
      return boolean ? "true" : "false";
    case Kind::kInteger:
      return std::to_string(integer);
    case Kind::kNumber:
      return ShowNumber(number);
    case Kind::kText:
      return std::string("\"").append(Printable(text, kShownText)).append("\"");
    case Kind::kList:
      return "a list of " + std::to_string(list.size());
    case Kind::kObject:
      return "an object";
  }
  return "?";
}

Result<Settings> Settings::FromGguf(const GgufMetadata& metadata, std::string where) {
  Settings settings;
  settings.where_ = std::move(where);
  settings.layout_ = FileLayout::kGguf;
  const auto architecture = metadata.values.find(std::string_view("general.architecture"));
  if (architecture == metadata.values.end() ||
      !std::holds_alternative<std::string>(architecture->second)) {
    return Error{ErrorCode::kInvalidInput,
                 settings.where_ + ": general.architecture is missing, but must name a family"};
  }
  settings.architecture_ = std::get<std::string>(architecture->second);
  const std::string prefix = settings.architecture_ + ".";
  for (const auto& [name, value] : metadata.values) {
    if (!name.starts_with(prefix) && !name.starts_with("general.")) continue;
    settings.values_.emplace(name, FromValue(value));
  }
  return settings;
}

std::string Settings::Name(const Key& key) const {
  switch (layout_) {
    case FileLayout::kGguf:
      return architecture_ + "." + std::string(key.gguf);
    case FileLayout::kConsolidated:
      return std::string(key.consolidated);
    case FileLayout::kHuggingFace:
      break;
  }
  for (const std::string_view name : key.hugging_face) {
    const auto found = values_.find(name);
    if (!name.empty() && found != values_.end() && found->second.kind != Kind::kNull) {
      return std::string(name);
    }
  }
  return std::string(key.hugging_face[0]);
}

Result<const SettingValue*> Settings::Find(const Key& key) const {
  const SettingValue* first = nullptr;
  std::string_view first_name;
  if (layout_ != FileLayout::kHuggingFace) {
    const bool spelled =
        layout_ == FileLayout::kGguf ? !key.gguf.empty() : !key.consolidated.empty();
    const auto found = spelled ? values_.find(Name(key)) : values_.end();
    if (found == values_.end() || found->second.kind == Kind::kNull) return first;
    return &found->second;
  }
  for (const std::string_view name : key.hugging_face) {
    if (name.empty()) continue;
    const auto found = values_.find(name);
    if (found == values_.end() || found->second.kind == Kind::kNull) continue;
    if (first != nullptr && !Same(*first, found->second)) {
      return Error{ErrorCode::kInvalidInput, where_ + ": " + std::string(first_name) + " is " +
                                                 first->Shown() + ", but " + std::string(name) +
                                                 " is " + found->second.Shown()};
    }
    if (first == nullptr) {
      first = &found->second;
      first_name = name;
    }
  }
  return first;
}

bool Settings::Has(const Key& key) const {
  const auto found = Find(key);
  return !found.has_value() || *found != nullptr;  // A contradiction is reported by the look-up.
}

Error Settings::Complain(ErrorCode code, const Key& key, std::string_view expected) const {
  const auto found = Find(key);
  if (!found.has_value()) return found.error();
  const std::string shown = *found == nullptr ? "missing" : (*found)->Shown();
  return Error{code, where_ + ": " + Name(key) + " is " + shown + ", but " + std::string(expected)};
}

Error Settings::Invalid(const Key& key, std::string_view expected) const {
  return Complain(ErrorCode::kInvalidInput, key, expected);
}

Error Settings::Unsupported(const Key& key, std::string_view expected) const {
  return Complain(ErrorCode::kUnsupported, key, expected);
}

Result<int64_t> Settings::Integer(const Key& key, Range range) const {
  MOXIE_TRY_ASSIGN(const SettingValue* value, Find(key));
  if (value == nullptr) return Invalid(key, Describe(range));
  const bool by_layer = layout_ == FileLayout::kGguf;
  const std::optional<int64_t> whole = WholeNumber(by_layer ? Uniform(*value) : *value);
  if (!whole || *whole < range.min || *whole > range.max) return Invalid(key, Describe(range));
  return *whole;
}

Result<int64_t> Settings::IntegerOr(const Key& key, Range range, int64_t fallback) const {
  MOXIE_TRY_ASSIGN(const SettingValue* value, Find(key));
  if (value == nullptr) return fallback;
  return Integer(key, range);
}

Result<double> Settings::Number(const Key& key, double min, double max) const {
  MOXIE_TRY_ASSIGN(const SettingValue* value, Find(key));
  const bool number =
      value != nullptr && (value->kind == Kind::kInteger || value->kind == Kind::kNumber);
  // Written so that a NaN fails.
  if (!number || !(value->number >= min && value->number <= max)) {
    return Invalid(key, "must be a number in " + ShowNumber(min) + ".." + ShowNumber(max));
  }
  return value->number;
}

Result<double> Settings::NumberOr(const Key& key, double min, double max, double fallback) const {
  MOXIE_TRY_ASSIGN(const SettingValue* value, Find(key));
  if (value == nullptr) return fallback;
  return Number(key, min, max);
}

Result<bool> Settings::BooleanOr(const Key& key, bool fallback) const {
  MOXIE_TRY_ASSIGN(const SettingValue* value, Find(key));
  if (value == nullptr) return fallback;
  if (value->kind != Kind::kBoolean) return Invalid(key, "must be true or false");
  return value->boolean;
}

Result<std::string> Settings::TextOr(const Key& key, std::string_view fallback) const {
  MOXIE_TRY_ASSIGN(const SettingValue* value, Find(key));
  if (value == nullptr) return std::string(fallback);
  if (value->kind != Kind::kText) return Invalid(key, "must be a text");
  return value->text;
}

Result<std::vector<std::string>> Settings::TextsOr(const Key& key,
                                                   std::vector<std::string> fallback) const {
  MOXIE_TRY_ASSIGN(const SettingValue* value, Find(key));
  if (value == nullptr) return fallback;
  if (value->kind != Kind::kList) return Invalid(key, "must be a list of texts");
  std::vector<std::string> texts;
  for (const SettingValue& item : value->list) {
    if (item.kind != Kind::kText) return Invalid(key, "must be a list of texts");
    texts.push_back(item.text);
  }
  return texts;
}

Result<std::vector<int64_t>> Settings::IntegersOr(const Key& key, Range range,
                                                  std::vector<int64_t> fallback) const {
  MOXIE_TRY_ASSIGN(const SettingValue* value, Find(key));
  if (value == nullptr) return fallback;
  std::vector<int64_t> integers;
  bool good = value->kind == Kind::kList;
  for (const SettingValue& item : value->list) {
    const std::optional<int64_t> whole =
        item.kind == Kind::kBoolean ? std::optional<int64_t>(item.boolean) : WholeNumber(item);
    good = good && whole && *whole >= range.min && *whole <= range.max;
    integers.push_back(whole.value_or(0));
  }
  if (!good) return Invalid(key, "must be a list of numbers that each " + Describe(range));
  return integers;
}

}  // namespace moxie
