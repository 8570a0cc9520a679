#include "server/log.h"

#include <chrono>
#include <cstdio>
#include <ctime>

namespace moxie::server {

void Log::Write(const std::string& event, const OrderedJson& fields) const {
  if (level_ == LogLevel::kNone) return;
  const auto now = std::chrono::system_clock::now();
  const std::time_t seconds = std::chrono::system_clock::to_time_t(now);
  const auto ms =
      std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch()).count() % 1000;
  std::tm utc{};
  gmtime_r(&seconds, &utc);
  char time[40];
  const size_t length = std::strftime(time, sizeof(time), "%Y-%m-%dT%H:%M:%S", &utc);
  std::snprintf(time + length, sizeof(time) - length, ".%03dZ", static_cast<int>(ms));
  OrderedJson line{{"time", time}, {"event", event}};
  line.update(fields);
  std::fputs((ToText(line) + "\n").c_str(), stderr);
}

}  // namespace moxie::server
