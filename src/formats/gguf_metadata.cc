#include <bit>
#include <limits>
#include <type_traits>
#include <utility>

#include "core/printable.h"
#include "formats/gguf.h"

namespace moxie {
namespace {

template <class T>
constexpr bool kIsInteger = std::is_integral_v<T> && !std::is_same_v<T, bool>;
template <class T>
constexpr bool kIsNumber = kIsInteger<T> || std::is_floating_point_v<T>;

constexpr const char* kTypeNames[] = {"a u8",   "an i8",  "a u16",  "an i16",   "a u32",
                                      "an i32", "an f32", "a bool", "a string", "an array",
                                      "a u64",  "an i64", "an f64"};
constexpr const char* kElementNames[] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                         "bool", "string", "array", "u64", "i64", "f64"};

std::string TypeName(const GgufValue& value) {
  if (const auto* array = std::get_if<GgufArray>(&value)) {
    return std::string("an array of ") + kElementNames[array->index()];
  }
  return kTypeNames[value.index()];
}

Error WrongType(const GgufMetadata& metadata, std::string_view key, const GgufValue& value,
                std::string_view expected) {
  return {ErrorCode::kInvalidInput, metadata.file + ": " + Printable(key) + " is " +
                                        TypeName(value) + ", but must be " + std::string(expected)};
}

Error TooLarge(const GgufMetadata& metadata, std::string_view key, uint64_t value) {
  return {ErrorCode::kInvalidInput, metadata.file + ": " + Printable(key) + " is " +
                                        std::to_string(value) + ", but must be below 2^63"};
}

template <class T>
bool FitsInt64(T value) {
  return std::in_range<int64_t>(value);
}

/// The elements of an array whose element type satisfies `kAccepts`, converted to To.
template <class To, class Accepts>
std::optional<std::vector<To>> Elements(const GgufValue& value, Accepts accepts) {
  const auto* array = std::get_if<GgufArray>(&value);
  if (array == nullptr) return std::nullopt;
  return std::visit(
      [&](const auto& elements) -> std::optional<std::vector<To>> {
        using Vector = std::decay_t<decltype(elements)>;
        if constexpr (std::is_same_v<Vector, std::monostate>) {
          return std::nullopt;
        } else {
          using From = typename Vector::value_type;
          if constexpr (decltype(accepts(From{}))::value) {
            std::vector<To> out;
            out.reserve(elements.size());
            for (const From& element : elements) out.push_back(static_cast<To>(element));
            return out;
          } else {
            return std::nullopt;
          }
        }
      },
      *array);
}

}  // namespace

const GgufValue* GgufMetadata::Find(std::string_view key) const {
  const auto it = values.find(key);
  return it == values.end() ? nullptr : &it->second;
}

Result<std::optional<int64_t>> GgufMetadata::Integer(std::string_view key) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return std::optional<int64_t>();
  return std::visit(
      [&](const auto& v) -> Result<std::optional<int64_t>> {
        using T = std::decay_t<decltype(v)>;
        if constexpr (kIsInteger<T>) {
          if (!FitsInt64(v)) return TooLarge(*this, key, static_cast<uint64_t>(v));
          return std::optional<int64_t>(static_cast<int64_t>(v));
        } else {
          return WrongType(*this, key, *value, "an integer");
        }
      },
      *value);
}

Result<std::optional<double>> GgufMetadata::Number(std::string_view key) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return std::optional<double>();
  return std::visit(
      [&](const auto& v) -> Result<std::optional<double>> {
        using T = std::decay_t<decltype(v)>;
        if constexpr (kIsNumber<T>) {
          return std::optional<double>(static_cast<double>(v));
        } else {
          return WrongType(*this, key, *value, "a number");
        }
      },
      *value);
}

Result<std::optional<bool>> GgufMetadata::Boolean(std::string_view key) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return std::optional<bool>();
  const bool* boolean = std::get_if<bool>(value);
  if (boolean == nullptr) return WrongType(*this, key, *value, "a bool");
  return std::optional<bool>(*boolean);
}

Result<std::optional<std::string>> GgufMetadata::Text(std::string_view key) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return std::optional<std::string>();
  const auto* text = std::get_if<std::string>(value);
  if (text == nullptr) return WrongType(*this, key, *value, "a string");
  return std::optional<std::string>(*text);
}

Result<std::optional<std::vector<std::string>>> GgufMetadata::Texts(std::string_view key) const {
  using Texts = std::vector<std::string>;
  const GgufValue* value = Find(key);
  if (value == nullptr) return std::optional<Texts>();
  const auto* array = std::get_if<GgufArray>(value);
  const auto* texts = array == nullptr ? nullptr : std::get_if<Texts>(array);
  if (texts == nullptr) return WrongType(*this, key, *value, "an array of strings");
  return std::optional<Texts>(*texts);
}

Result<std::optional<std::vector<double>>> GgufMetadata::Numbers(std::string_view key) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return std::optional<std::vector<double>>();
  auto numbers = Elements<double>(*value, [](const auto& element) {
    return std::bool_constant<kIsNumber<std::remove_cvref_t<decltype(element)>>>();
  });
  if (!numbers) return WrongType(*this, key, *value, "an array of numbers");
  return numbers;
}

Result<std::optional<std::vector<int64_t>>> GgufMetadata::Integers(std::string_view key) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return std::optional<std::vector<int64_t>>();
  auto integers = Elements<int64_t>(*value, [](const auto& element) {
    return std::bool_constant<kIsInteger<std::remove_cvref_t<decltype(element)>>>();
  });
  if (!integers) return WrongType(*this, key, *value, "an array of integers");
  if (const auto* wide = std::get_if<std::vector<uint64_t>>(&std::get<GgufArray>(*value))) {
    for (const uint64_t element : *wide) {
      if (!FitsInt64(element)) return TooLarge(*this, key, element);
    }
  }
  return integers;
}

Result<uint64_t> GgufAlignment(const GgufMetadata& metadata) {
  constexpr int64_t kMost = int64_t{1} << 20;
  MOXIE_TRY_ASSIGN(const std::optional<int64_t> alignment, metadata.Integer("general.alignment"));
  if (!alignment) return uint64_t{32};
  if (*alignment < 8 || *alignment > kMost ||
      !std::has_single_bit(static_cast<uint64_t>(*alignment))) {
    return Error{ErrorCode::kInvalidInput,
                 metadata.file + ": general.alignment is " + std::to_string(*alignment) +
                     ", but must be a power of two from 8 to " + std::to_string(kMost)};
  }
  return static_cast<uint64_t>(*alignment);
}

}  // namespace moxie
