#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "moxie/result.h"
#include "server/http.h"

namespace moxie::server {

/// What a client is told went wrong. Status 0: nothing did.
struct ApiError {
  int status = 0;
  std::string message;
  std::string type;   ///< OpenAI's: "invalid_request_error", ...
  std::string param;  ///< the field concerned, or empty
  std::string code;   ///< or empty
};

ApiError InvalidRequest(std::string message, std::string param = "");
/// The library's errors: 400 for what the caller can mend, else 500.
ApiError FromError(const Error& error, std::string param = "");
/// Instead of an answer, or of what is missing of a stream, in OpenAI's form.
void SendError(Exchange& exchange, const ApiError& error);
/// The system refuses memory for this request.
ApiError NoMemory();

/// 429: the server has `count` of `what` and takes no more.
ApiError QueueFull(int64_t count, const std::string& what);

/// {"error": {"message", "type", "param", "code"}}
HttpResponse ErrorResponse(const ApiError& error);
std::string ErrorJson(const ApiError& error);

/// A request on its way through the server.
struct Call {
  HttpRequest http;
  ExchangePtr exchange;
  std::string id;   ///< sent back as x-request-id
  std::string key;  ///< "key1", ... for the API key that was given, or empty
};

/// What a call that was read in another thread leaves to be done in the server's.
using Continuation = std::function<void()>;
Continuation Respond(const Call& call, HttpResponse response);

/// Seconds since 1970.
int64_t UnixTime();

/// `prefix` and 24 random letters and digits.
std::string RandomId(const std::string& prefix, int letters = 24);

}  // namespace moxie::server
