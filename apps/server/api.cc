#include "server/api.h"

#include <random>

#include "server/json.h"

namespace moxie::server {

ApiError InvalidRequest(std::string message, std::string param) {
  return {.status = 400,
          .message = std::move(message),
          .type = "invalid_request_error",
          .param = std::move(param),
          .code = {}};
}

ApiError FromError(const Error& error, std::string param) {
  const bool callers =
      error.code == ErrorCode::kInvalidInput || error.code == ErrorCode::kUnsupported;
  if (callers) return InvalidRequest(error.message, std::move(param));
  return {.status = 500,
          .message = error.message,
          .type = "server_error",
          .param = std::move(param),
          .code = {}};
}

ApiError NoMemory() {
  return {.status = 503,
          .message = "the system has not the memory for this request; try again soon",
          .type = "server_error",
          .param = {},
          .code = "out_of_memory"};
}

ApiError QueueFull(int64_t count, const std::string& what) {
  return {.status = 429,
          .message = "the server has " + std::to_string(count) + " " + what + "; try again soon",
          .type = "rate_limit_error",
          .param = {},
          .code = "queue_full"};
}

std::string ErrorJson(const ApiError& error) {
  const auto text_or_null = [](const std::string& text) {
    return text.empty() ? OrderedJson(nullptr) : OrderedJson(text);
  };
  return ToText({{"error",
                  {{"message", error.message},
                   {"type", error.type},
                   {"param", text_or_null(error.param)},
                   {"code", text_or_null(error.code)}}}});
}

HttpResponse ErrorResponse(const ApiError& error) {
  HttpResponse response{.status = error.status, .body = ErrorJson(error)};
  if (error.status == 429 || error.status == 503) response.headers.emplace_back("Retry-After", "1");
  if (error.status == 401) response.headers.emplace_back("WWW-Authenticate", "Bearer");
  return response;
}

void SendError(Exchange& exchange, const ApiError& error) {
  if (!exchange.streaming()) return exchange.Send(ErrorResponse(error));
  exchange.Write("data: " + ErrorJson(error) + "\n\n");
  exchange.EndStream();
}

Continuation Respond(const Call& call, HttpResponse response) {
  return [exchange = call.exchange, response = std::move(response)] { exchange->Send(response); };
}

int64_t UnixTime() {
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

std::string RandomId(const std::string& prefix, int letters) {
  constexpr char kAlphabet[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
  std::random_device device;
  std::uniform_int_distribution<size_t> pick(0, sizeof(kAlphabet) - 2);
  std::string id = prefix;
  for (int i = 0; i < letters; ++i) id += kAlphabet[pick(device)];
  return id;
}

}  // namespace moxie::server
