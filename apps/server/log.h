#pragma once

#include <string>

#include "server/json.h"

namespace moxie::server {

enum class LogLevel : uint8_t { kNone, kRequests, kPrompts };

/// Structured logs on standard error: one JSON object a line. Prompts and answers appear with
/// kPrompts alone.
class Log {
 public:
  explicit Log(LogLevel level) : level_(level) {}
  bool prompts() const { return level_ == LogLevel::kPrompts; }
  /// `fields` follow the time.
  void Write(const std::string& event, const OrderedJson& fields) const;

 private:
  LogLevel level_;
};

}  // namespace moxie::server
