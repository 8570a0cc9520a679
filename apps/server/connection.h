#pragma once

// Seen by http.cc alone: Asio and Beast take seconds to compile.
#include <atomic>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

#include "server/connection_exchange.h"
#include "server/patience.h"

namespace moxie::server {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using Tcp = asio::ip::tcp;
using ErrorValue = boost::system::error_code;
using TlsStream = asio::ssl::stream<Tcp::socket>;

constexpr size_t kReadBytes = 16 << 10;
constexpr size_t kMostReadAhead = 64 << 10;  // Of a next request while an answer is under way.
constexpr int kHandshakeSeconds = 10;
constexpr int kLingerSeconds = 2;

/// What connections need of the server.
struct ServerState {
  explicit ServerState(const HttpOptions& given) : options(given) {}
  HttpOptions options;
  HttpServer::Handler handler;
  std::function<void()> connection_ended;
  bool draining = false;
  /// Bytes of the bodies that are kept; its own, for a request may outlive the server.
  std::shared_ptr<std::atomic<int64_t>> bodies = std::make_shared<std::atomic<int64_t>>(0);
};

/// One body's share of ServerState::bodies.
class BodyCount {
 public:
  explicit BodyCount(std::shared_ptr<std::atomic<int64_t>> all) : all_(std::move(all)) {}
  ~BodyCount() { *all_ -= bytes_; }
  BodyCount(const BodyCount&) = delete;
  BodyCount& operator=(const BodyCount&) = delete;
  /// Takes the body to be of so many bytes now; returns those of all.
  int64_t Set(size_t bytes) {
    const int64_t more = static_cast<int64_t>(bytes) - std::exchange(bytes_, bytes);
    return *all_ += more;
  }

 private:
  std::shared_ptr<std::atomic<int64_t>> all_;
  int64_t bytes_ = 0;
};

class Connection {
 public:
  virtual ~Connection() = default;
  virtual void Start() = 0;
  /// Ends it now where it is idle, else after the answer under way.
  virtual void Drain() = 0;
  virtual void Close() = 0;
};

/// One connection. A read is always under way, so a client that leaves is noticed at once; what
/// arrives is fed to the parser of the next request, or kept while an answer is under way.
template <class Stream>
class ConnectionOf final : public Connection,
                           public ConnectionExchange::Sink,
                           public std::enable_shared_from_this<ConnectionOf<Stream>> {
 public:
  ConnectionOf(std::shared_ptr<ServerState> shared, Stream stream, std::string client)
      : shared_(std::move(shared)),
        stream_(std::move(stream)),
        client_(std::move(client)),
        deadline_(stream_.get_executor()) {}

  void Start() override {
    NewParser();
    if constexpr (std::is_same_v<Stream, TlsStream>) {
      SetDeadline(kHandshakeSeconds);
      stream_.async_handshake(asio::ssl::stream_base::server,
                              [self = this->shared_from_this()](const ErrorValue& error) {
                                if (error) return self->Close();
                                self->AwaitRequest();
                              });
    } else {
      AwaitRequest();
    }
  }

  void Drain() override {
    if (exchange_ == nullptr && !writing_) Close();
  }

  void Close() override {
    if (closed_) return;
    closed_ = true;
    ErrorValue ignored;
    deadline_.cancel();
    socket().close(ignored);
    if (exchange_ != nullptr) exchange_->Detach();
    exchange_ = nullptr;
    shared_->connection_ended();
  }

  // ConnectionExchange::Sink
  void Keep(const std::string& bytes) override { unsent_ += bytes; }
  void Send(bool last) override {
    if (closed_) return;
    if (last) {
      exchange_ = nullptr;
      answered_ = true;
    }
    if (static_cast<int64_t>(unsent_.size()) > shared_->options.limits.unsent_bytes && !last)
      return Close();
    Flush();
  }
  void Abort() override { Close(); }
  bool http_1_0() const override { return http_1_0_; }
  bool keeps_alive() const override { return keep_alive_ && !shared_->draining; }

 private:
  using Parser = http::request_parser<http::string_body>;

  Tcp::socket& socket() {
    if constexpr (std::is_same_v<Stream, TlsStream>) {
      return stream_.next_layer();
    } else {
      return stream_;
    }
  }

  void NewParser() {
    WithPatience([this] {
      body_count_ = std::make_shared<BodyCount>(shared_->bodies);
      parser_.emplace();
    });
    parser_->eager(true);
    parser_->header_limit(static_cast<uint32_t>(shared_->options.limits.header_bytes));
    parser_->body_limit(static_cast<uint64_t>(shared_->options.limits.body_bytes));
    head_seen_ = false;
  }

  void AwaitRequest() {
    SetDeadline(shared_->options.limits.idle_s);
    if (input_.size() > 0) return Parse();
    Read();
  }

  void Read() {
    const bool answering = exchange_ != nullptr || answered_;
    if (reading_ || closed_ || (answering && input_.size() >= kMostReadAhead)) return;
    try {
      const auto room = input_.prepare(kReadBytes);
      WithPatience([this, room] {
        stream_.async_read_some(
            room, [self = this->shared_from_this()](const ErrorValue& error, size_t bytes) {
              self->OnRead(error, bytes);
            });
      });
      reading_ = true;
    } catch (const std::bad_alloc&) {
      if (lingering_) return Close();
      if (!answering) RefuseForMemory();  // Else it is read on after the answer.
    }
  }

  void OnRead(const ErrorValue& error, size_t bytes) {
    reading_ = false;
    if (closed_) return;
    if (error) return Close();
    input_.commit(bytes);
    if (lingering_) input_.consume(input_.size());
    if (exchange_ == nullptr && !answered_ && !lingering_) Parse();
    Read();
  }

  void Parse() {
    try {
      ParseInput();
    } catch (const std::bad_alloc&) {
      RefuseForMemory();
    }
  }

  void ParseInput() {
    while (input_.size() > 0 && !parser_->is_done()) {
      ErrorValue error;
      const size_t used = parser_->put(input_.data(), error);
      input_.consume(used);
      if (parser_->is_header_done() && !head_seen_) OnHead();
      if (error == http::error::need_more) break;
      if (error) return Refuse(error);
      const int64_t bodies = body_count_->Set(parser_->get().body().size());
      if (bodies > shared_->options.limits.bodies_bytes) return RefuseBusy();
    }
    if (parser_->is_done()) return Dispatch();
    Read();
  }

  void OnHead() {
    head_seen_ = true;
    SetDeadline(shared_->options.limits.body_s);
    const auto& message = parser_->get();
    if (message[http::field::expect] == "100-continue" && !parser_->is_done()) {
      unsent_ += StatusLine(100) + "\r\n";
      Flush();
    }
  }

  void Refuse(const ErrorValue& error) {
    HttpResponse response{.status = 400};
    std::string message = "the request is not HTTP/1.1";
    if (error == http::error::body_limit) {
      response.status = 413;
      message = "the body has more than the " + std::to_string(shared_->options.limits.body_bytes) +
                " bytes that this server reads";
    } else if (error == http::error::header_limit) {
      response.status = 431;
      message = "the headers have more than the " +
                std::to_string(shared_->options.limits.header_bytes) +
                " bytes that this server reads";
    }
    SendRefusal(std::move(response), message, "invalid_request_error");
  }

  void RefuseBusy() {
    NewParser();  // What it has read makes room.
    SendRefusal({.status = 429, .headers = {{"Retry-After", "1"}}},
                "the requests that are being read and answered have as many bytes as this server "
                "keeps; try again",
                "rate_limit_error");
  }

  /// Of what was read of a request, or of a whole one.
  void RefuseForMemory() {
    if (exchange_ == nullptr && answered_) return;
    WithPatience([this] {
      if (exchange_ != nullptr) exchange_->Detach();
      NewParser();  // What it has read makes room.
      SendRefusal({.status = 503, .headers = {{"Retry-After", "1"}}},
                  "the system has not the memory for this request; try again soon", "server_error",
                  "\"out_of_memory\"");
    });
  }

  void SendRefusal(HttpResponse response, const std::string& message, const std::string& type,
                   const std::string& code = "null") {
    response.body = "{\"error\":{\"message\":\"" + message + "\",\"type\":\"" + type +
                    "\",\"param\":null,\"code\":" + code + "}}";
    keep_alive_ = false;
    exchange_ = std::make_shared<ConnectionExchange>(this->shared_from_this(), false);
    exchange_->Send(response);
  }

  void Dispatch() {
    auto message = parser_->release();
    HttpRequest request;
    const std::string target(message.target());
    const size_t question = target.find('?');
    request.method = std::string(message.method_string());
    request.path = target.substr(0, question);
    if (question != std::string::npos) request.query = target.substr(question + 1);
    for (const auto& field : message)
      request.headers.emplace_back(field.name_string(), field.value());
    request.body = std::move(message.body());
    request.counted = body_count_;
    request.client = client_;
    http_1_0_ = message.version() < 11;
    keep_alive_ = message.keep_alive() && !http_1_0_;
    NewParser();
    deadline_.cancel();
    const auto exchange =
        std::make_shared<ConnectionExchange>(this->shared_from_this(), request.method == "HEAD");
    exchange_ = exchange;
    shared_->handler(std::move(request), exchange);
    Read();
  }

  void Flush() {
    if (writing_ || closed_) return;
    if (unsent_.empty()) return Written();
    writing_ = true;
    sending_ = std::exchange(unsent_, {});
    SetDeadline(shared_->options.limits.send_s);
    WithPatience([this] {
      asio::async_write(stream_, asio::buffer(sending_),
                        [self = this->shared_from_this()](const ErrorValue& error, size_t) {
                          self->OnWritten(error);
                        });
    });
  }

  void OnWritten(const ErrorValue& error) {
    writing_ = false;
    if (closed_) return;
    if (error) return Close();
    deadline_.cancel();
    Flush();
  }

  /// Nothing is left to send.
  void Written() {
    if (!answered_) {
      if (exchange_ == nullptr) SetDeadline(shared_->options.limits.body_s);
      return;
    }
    answered_ = false;
    if (keeps_alive()) return AwaitRequest();
    // A close with unread bytes would reset the connection under the answer.
    lingering_ = true;
    input_.consume(input_.size());
    ErrorValue ignored;
    socket().shutdown(Tcp::socket::shutdown_send, ignored);
    SetDeadline(kLingerSeconds);
    Read();
  }

  void SetDeadline(int seconds) {
    deadline_.expires_after(std::chrono::seconds(seconds));
    WithPatience([this] {
      deadline_.async_wait([self = this->shared_from_this()](const ErrorValue& error) {
        // A timer that was set anew in the meantime has not expired.
        if (!error && self->deadline_.expiry() <= std::chrono::steady_clock::now()) self->Close();
      });
    });
  }

  std::shared_ptr<ServerState> shared_;
  Stream stream_;
  std::string client_;
  asio::steady_timer deadline_;
  boost::beast::flat_buffer input_;
  std::optional<Parser> parser_;
  std::shared_ptr<BodyCount> body_count_;
  std::shared_ptr<ConnectionExchange> exchange_;  // The answer under way.
  std::string unsent_, sending_;
  bool head_seen_ = false;
  bool http_1_0_ = false;
  bool keep_alive_ = true;
  bool reading_ = false;
  bool writing_ = false;
  bool answered_ = false;   // The last byte of the answer is in unsent_ or sending_.
  bool lingering_ = false;  // Waits for the client to close.
  bool closed_ = false;
};

}  // namespace moxie::server
