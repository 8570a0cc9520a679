#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>

namespace moxie {

/// What kind of failure an Error reports. The command line maps all of them to exit status 1.
enum class ErrorCode : uint8_t {
  kInvalidInput,  ///< A file, an option or an argument is malformed or contradicts itself.
  kNotFound,      ///< A file or a named thing does not exist.
  kUnsupported,   ///< Well-formed, but of a kind that moxie does not handle.
  kIo,            ///< The operating system refused or failed a read or a write.
  kOverBudget,    ///< More memory would be needed than was granted.
  kCancelled,     ///< The caller asked to stop.
};

/// A failure: its kind and one sentence that says what, where, and what was expected.
/// The sentence has no trailing period or newline, and starts with the file or field concerned.
struct Error {
  ErrorCode code = ErrorCode::kInvalidInput;
  std::string message;
};

/// Aborts with a message on standard error; for bugs of moxie itself, never for a user's input.
[[noreturn]] void CheckFailed(const char* condition, const char* file, int line);

#define MOXIE_CHECK(condition) \
  ((condition) ? static_cast<void>(0) : ::moxie::CheckFailed(#condition, __FILE__, __LINE__))

/// A value or an Error, with std::expected's names (C++23's type, for a C++20 compiler).
///
/// Thread-safety: as for T. Accessing the absent alternative is a bug and aborts.
template <class T>
class [[nodiscard]] Result {
 public:
  using value_type = T;

  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}      // NOLINT
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}  // NOLINT
  template <class U>
  requires(std::is_convertible_v<U&&, T> && !std::is_same_v<std::remove_cvref_t<U>, T> &&
           !std::is_same_v<std::remove_cvref_t<U>, Error> &&
           !std::is_same_v<std::remove_cvref_t<U>, Result>) Result(U&& value)  // NOLINT
      : state_(std::in_place_index<0>, std::forward<U>(value)) {}              // NOLINT

  bool has_value() const { return state_.index() == 0; }
  explicit operator bool() const { return has_value(); }

  T& value() & {
    MOXIE_CHECK(has_value());
    return *std::get_if<0>(&state_);
  }
  const T& value() const& {
    MOXIE_CHECK(has_value());
    return *std::get_if<0>(&state_);
  }
  T&& value() && {
    MOXIE_CHECK(has_value());
    return std::move(*std::get_if<0>(&state_));
  }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

  const Error& error() const& {
    MOXIE_CHECK(!has_value());
    return *std::get_if<1>(&state_);
  }
  Error&& error() && {
    MOXIE_CHECK(!has_value());
    return std::move(*std::get_if<1>(&state_));
  }

 private:
  std::variant<T, Error> state_;
};

/// Success without a value, or an Error. Return `{}` for success.
template <>
class [[nodiscard]] Result<void> {
 public:
  using value_type = void;

  Result() = default;
  Result(Error error) : error_(std::move(error)) {}  // NOLINT

  bool has_value() const { return !error_.has_value(); }
  explicit operator bool() const { return has_value(); }

  const Error& error() const& {
    MOXIE_CHECK(error_.has_value());
    return *error_;
  }
  Error&& error() && {
    MOXIE_CHECK(error_.has_value());
    return std::move(*error_);
  }

 private:
  std::optional<Error> error_;
};

#define MOXIE_CONCAT_INNER(a, b) a##b
#define MOXIE_CONCAT(a, b) MOXIE_CONCAT_INNER(a, b)

/// Returns from the enclosing function with the Error of a Result<void> expression, if it is one.
#define MOXIE_TRY(expression)                                        \
  do {                                                               \
    if (auto moxie_result = (expression); !moxie_result.has_value()) \
      return std::move(moxie_result).error();                        \
  } while (false)

/// `MOXIE_TRY_ASSIGN(auto x, F());` declares x as F's value, or returns F's Error.
#define MOXIE_TRY_ASSIGN(declaration, expression) \
  MOXIE_TRY_ASSIGN_INNER(MOXIE_CONCAT(moxie_result_, __LINE__), declaration, expression)
#define MOXIE_TRY_ASSIGN_INNER(name, declaration, expression) \
  auto name = (expression);                                   \
  if (!name.has_value()) return std::move(name).error();      \
  declaration = std::move(name).value()

}  // namespace moxie
