#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "moxie/result.h"

namespace moxie::server {

using Headers = std::vector<std::pair<std::string, std::string>>;

/// A request, read whole.
struct HttpRequest {
  std::string method;
  std::string path;  ///< the target up to '?'
  std::string query;
  Headers headers;
  std::string body;
  std::string client;                   ///< its address and port: the connection
  std::shared_ptr<const void> counted;  ///< while it lives, the body counts in bodies_bytes

  /// The first header of that name in any case, or empty.
  std::string_view Header(std::string_view name) const;
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json";
  std::string body = {};
  Headers headers = {};
};

/// The answer to one request: either one Send, or StartStream, any number of Write, and EndStream.
/// Used in the server's thread only, but for `gone`. Whatever is written after the client has gone
/// is dropped.
class Exchange {
 public:
  virtual ~Exchange() = default;
  virtual void Send(const HttpResponse& response) = 0;
  /// Sends status and headers; `head.body` must be empty.
  virtual void StartStream(const HttpResponse& head) = 0;
  virtual void Write(std::string_view bytes) = 0;
  virtual void EndStream() = 0;
  /// Ends the connection where there is no memory even to say so.
  virtual void Abort() = 0;
  /// `gone` is called at most once, if the connection ends before the answer does.
  virtual void OnGone(std::function<void()> gone) = 0;
  virtual bool streaming() const = 0;
  /// Whether the connection has ended. From any thread.
  virtual bool gone() const = 0;
};

using ExchangePtr = std::shared_ptr<Exchange>;

struct HttpLimits {
  int64_t body_bytes = int64_t{32} << 20;
  int64_t bodies_bytes = int64_t{256} << 20;  ///< of all requests that arrive or are being answered
  int64_t header_bytes = 32 << 10;
  int64_t connections = 4096;
  int64_t unsent_bytes = 8 << 20;  ///< of one answer; a client that lets more pile up is gone
  int idle_s = 120;                ///< until a request's headers are complete
  int body_s = 60;                 ///< from there until its body is
  int send_s = 60;                 ///< until the client has taken what was ready to be sent
};

struct HttpOptions {
  std::string host = "127.0.0.1";
  int port = 8080;  ///< 0: any that is free
  HttpLimits limits = {};
  std::string tls_certificate;  ///< PEM files; both or none
  std::string tls_key;
  int grace_s = 30;  ///< that a shutdown waits for answers under way
};

/// HTTP/1.1 over TCP or TLS: one thread runs every connection, so that thousands of idle ones cost
/// memory alone.
class HttpServer {
 public:
  using Handler = std::function<void(HttpRequest, ExchangePtr)>;

  /// Listens; connections wait until Run.
  /// Errors: kIo where the address cannot be had; kInvalidInput for certificates that do not load.
  static Result<std::unique_ptr<HttpServer>> Create(const HttpOptions& options);
  virtual ~HttpServer() = default;

  virtual int port() const = 0;
  /// Serves until SIGINT or SIGTERM, then finishes the answers under way, at most grace_s long;
  /// a second signal ends them at once. `on_drain` is called when the first signal comes.
  virtual void Run(Handler handler, std::function<void()> on_drain) = 0;
  /// Has `task` called in the server's thread. From any thread.
  virtual void Post(std::function<void()> task) = 0;
  /// Has `task` called in one of a few threads beside the server's, all of which have ended when
  /// Run returns. From any thread.
  virtual void Offload(std::function<void()> task) = 0;
  virtual int64_t connections() const = 0;
};

}  // namespace moxie::server
