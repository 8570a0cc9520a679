// The only file that sees Asio and Beast: they take seconds to compile.
#include "server/http.h"

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/status.hpp>
#include <boost/beast/http/string_body.hpp>
#include <csignal>
#include <cstdio>
#include <optional>
#include <set>
#include <string>

namespace moxie::server {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using Tcp = asio::ip::tcp;
using ErrorValue = boost::system::error_code;
using TlsStream = asio::ssl::stream<Tcp::socket>;

constexpr size_t kReadBytes = 16 << 10;
constexpr size_t kMostReadAhead = 64 << 10;  // Of a next request while an answer is under way.
constexpr int kHandshakeSeconds = 10;
constexpr int kLingerSeconds = 2;

std::string StatusLine(int status) {
  const auto reason = http::obsolete_reason(static_cast<http::status>(status));
  return "HTTP/1.1 " + std::to_string(status) + " " + std::string(reason) + "\r\n";
}

/// What connections need of the server.
struct Shared {
  explicit Shared(const HttpOptions& given) : options(given) {}
  HttpOptions options;
  HttpServer::Handler handler;
  std::function<void()> connection_ended;
  bool draining = false;
};

class Connection {
 public:
  virtual ~Connection() = default;
  virtual void Start() = 0;
  /// Ends it now where it is idle, else after the answer under way.
  virtual void Drain() = 0;
  virtual void Close() = 0;
};

/// The answer's side of a connection. Outlives it where the handler is slower than the client.
class ExchangeOf : public Exchange {
 public:
  class Sink {
   public:
    virtual ~Sink() = default;
    virtual void Put(const std::string& bytes, bool last) = 0;
    virtual bool http_1_0() const = 0;
    virtual bool keeps_alive() const = 0;
  };

  ExchangeOf(std::shared_ptr<Sink> sink, bool head_only)
      : sink_(std::move(sink)), head_only_(head_only) {}

  void Send(const HttpResponse& response) override {
    std::string bytes = Head(response);
    bytes += "Content-Length: " + std::to_string(response.body.size()) + "\r\n\r\n";
    if (!head_only_) bytes += response.body;
    Put(bytes, true);
  }

  void StartStream(const HttpResponse& head) override {
    std::string bytes = Head(head);
    chunked_ = sink_ != nullptr && !sink_->http_1_0();
    bytes += chunked_ ? "Transfer-Encoding: chunked\r\n\r\n" : "\r\n";
    streaming_ = true;
    Put(bytes, false);
  }

  void Write(std::string_view bytes) override {
    if (bytes.empty()) return;
    if (!chunked_) return Put(std::string(bytes), false);
    char size[24];
    std::snprintf(size, sizeof(size), "%zx\r\n", bytes.size());
    std::string chunk = size;
    chunk += bytes;
    chunk += "\r\n";
    Put(chunk, false);
  }

  void EndStream() override { Put(chunked_ ? "0\r\n\r\n" : "", true); }
  void OnGone(std::function<void()> gone) override { gone_ = std::move(gone); }
  bool streaming() const override { return streaming_; }

  /// The connection has ended.
  void Detach() {
    if (sink_ == nullptr) return;
    sink_ = nullptr;
    if (const auto gone = std::exchange(gone_, nullptr)) gone();
  }

 private:
  std::string Head(const HttpResponse& response) const {
    std::string head = StatusLine(response.status);
    if (!response.content_type.empty()) head += "Content-Type: " + response.content_type + "\r\n";
    for (const auto& [name, value] : response.headers) head += name + ": " + value + "\r\n";
    if (sink_ != nullptr && !sink_->keeps_alive()) head += "Connection: close\r\n";
    return head;
  }

  void Put(const std::string& bytes, bool last) {
    if (sink_ == nullptr) return;
    const std::shared_ptr<Sink> sink = sink_;
    if (last) {
      gone_ = nullptr;
      sink_ = nullptr;
    }
    sink->Put(bytes, last);
  }

  std::shared_ptr<Sink> sink_;
  std::function<void()> gone_;
  bool head_only_;
  bool chunked_ = false;
  bool streaming_ = false;
};

/// One connection. A read is always under way, so a client that leaves is noticed at once; what
/// arrives is fed to the parser of the next request, or kept while an answer is under way.
template <class Stream>
class ConnectionOf final : public Connection,
                           public ExchangeOf::Sink,
                           public std::enable_shared_from_this<ConnectionOf<Stream>> {
 public:
  ConnectionOf(std::shared_ptr<Shared> shared, Stream stream, std::string client)
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

  // ExchangeOf::Sink
  void Put(const std::string& bytes, bool last) override {
    if (closed_) return;
    unsent_ += bytes;
    if (last) {
      exchange_ = nullptr;
      answered_ = true;
    }
    if (static_cast<int64_t>(unsent_.size()) > shared_->options.limits.unsent_bytes && !last)
      return Close();
    Flush();
  }
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
    parser_.emplace();
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
    reading_ = true;
    stream_.async_read_some(input_.prepare(kReadBytes), [self = this->shared_from_this()](
                                                            const ErrorValue& error, size_t bytes) {
      self->reading_ = false;
      if (self->closed_) return;
      if (error) return self->Close();
      self->input_.commit(bytes);
      if (self->lingering_) self->input_.consume(self->input_.size());
      if (self->exchange_ == nullptr && !self->answered_ && !self->lingering_) self->Parse();
      self->Read();
    });
  }

  void Parse() {
    while (input_.size() > 0 && !parser_->is_done()) {
      ErrorValue error;
      const size_t used = parser_->put(input_.data(), error);
      input_.consume(used);
      if (parser_->is_header_done() && !head_seen_) OnHead();
      if (error == http::error::need_more) break;
      if (error) return Refuse(error);
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
    response.body = "{\"error\":{\"message\":\"" + message +
                    "\",\"type\":\"invalid_request_error\",\"param\":null,\"code\":null}}";
    keep_alive_ = false;
    exchange_ = std::make_shared<ExchangeOf>(this->shared_from_this(), false);
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
    request.client = client_;
    http_1_0_ = message.version() < 11;
    keep_alive_ = message.keep_alive() && !http_1_0_;
    NewParser();
    deadline_.cancel();
    const auto exchange =
        std::make_shared<ExchangeOf>(this->shared_from_this(), request.method == "HEAD");
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
    asio::async_write(stream_, asio::buffer(sending_),
                      [self = this->shared_from_this()](const ErrorValue& error, size_t) {
                        self->writing_ = false;
                        if (self->closed_) return;
                        if (error) return self->Close();
                        self->deadline_.cancel();
                        self->Flush();
                      });
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
    deadline_.async_wait([self = this->shared_from_this()](const ErrorValue& error) {
      // A timer that was set anew in the meantime has not expired.
      if (!error && self->deadline_.expiry() <= std::chrono::steady_clock::now()) self->Close();
    });
  }

  std::shared_ptr<Shared> shared_;
  Stream stream_;
  std::string client_;
  asio::steady_timer deadline_;
  boost::beast::flat_buffer input_;
  std::optional<Parser> parser_;
  std::shared_ptr<ExchangeOf> exchange_;  // The answer under way.
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

class AsioServer final : public HttpServer {
 public:
  explicit AsioServer(const HttpOptions& options)
      : shared_(std::make_shared<Shared>(options)),
        acceptor_(context_),
        signals_(context_),
        grace_(context_) {
    shared_->connection_ended = [this] {
      --count_;
      if (shared_->draining && count_ == 0) return Stop();
      Accept();
    };
  }

  ~AsioServer() override {
    shared_->connection_ended = [] {};
    for (const auto& weak : connections_) {
      if (const auto connection = weak.lock()) connection->Close();
    }
  }

  Result<void> Listen() {
    const HttpOptions& options = shared_->options;
    MOXIE_TRY(LoadCertificates());
    ErrorValue error;
    Tcp::resolver resolver(context_);
    const auto found =
        resolver.resolve(options.host, std::to_string(options.port), Tcp::resolver::passive, error);
    if (error || found.empty())
      return Error{ErrorCode::kIo, "--host " + options.host + ": " + error.message()};
    const Tcp::endpoint endpoint = *found.begin();
    acceptor_.open(endpoint.protocol(), error);
    if (!error) acceptor_.set_option(Tcp::acceptor::reuse_address(true), error);
    if (!error) acceptor_.bind(endpoint, error);
    if (!error) acceptor_.listen(asio::socket_base::max_listen_connections, error);
    if (error)
      return Error{ErrorCode::kIo,
                   options.host + ":" + std::to_string(options.port) + ": " + error.message()};
    return {};
  }

  int port() const override { return acceptor_.local_endpoint().port(); }
  int64_t connections() const override { return count_; }
  void Post(std::function<void()> task) override { asio::post(context_, std::move(task)); }

  void Run(Handler handler, std::function<void()> on_drain) override {
    shared_->handler = std::move(handler);
    on_drain_ = std::move(on_drain);
    signals_.add(SIGINT);
    signals_.add(SIGTERM);
    AwaitSignal();
    Accept();
    context_.run();
  }

 private:
  Result<void> LoadCertificates() {
    const HttpOptions& options = shared_->options;
    if (options.tls_certificate.empty() && options.tls_key.empty()) return {};
    if (options.tls_certificate.empty() || options.tls_key.empty())
      return Error{ErrorCode::kInvalidInput, "--tls-cert and --tls-key go together"};
    tls_.emplace(asio::ssl::context::tls_server);
    tls_->set_options(asio::ssl::context::default_workarounds | asio::ssl::context::no_tlsv1 |
                      asio::ssl::context::no_tlsv1_1);
    ErrorValue error;
    tls_->use_certificate_chain_file(options.tls_certificate, error);
    if (error)
      return Error{ErrorCode::kInvalidInput, options.tls_certificate + ": " + error.message()};
    tls_->use_private_key_file(options.tls_key, asio::ssl::context::pem, error);
    if (error) return Error{ErrorCode::kInvalidInput, options.tls_key + ": " + error.message()};
    return {};
  }

  void AwaitSignal() {
    signals_.async_wait([this](const ErrorValue& error, int) {
      if (error) return;
      if (shared_->draining) return Stop();
      shared_->draining = true;
      ErrorValue ignored;
      acceptor_.close(ignored);
      on_drain_();
      for (const auto& connection : Alive()) connection->Drain();
      if (count_ == 0) return Stop();
      grace_.expires_after(std::chrono::seconds(shared_->options.grace_s));
      grace_.async_wait([this](const ErrorValue& cancelled) {
        if (!cancelled) Stop();
      });
      AwaitSignal();
    });
  }

  void Stop() {
    if (stopping_) return;
    stopping_ = true;
    for (const auto& connection : Alive()) connection->Close();
    context_.stop();
  }

  std::vector<std::shared_ptr<Connection>> Alive() {
    std::vector<std::shared_ptr<Connection>> alive;
    std::erase_if(connections_, [&](const auto& weak) {
      if (auto connection = weak.lock()) alive.push_back(std::move(connection));
      return weak.expired();
    });
    return alive;
  }

  void Accept() {
    if (accepting_ || shared_->draining || count_ >= shared_->options.limits.connections) return;
    accepting_ = true;
    acceptor_.async_accept([this](const ErrorValue& error, Tcp::socket socket) {
      accepting_ = false;
      if (!error) Welcome(std::move(socket));
      // Out of file descriptors: the end of a connection tries again.
      if (!error || count_ == 0) Accept();
    });
  }

  void Welcome(Tcp::socket socket) {
    ErrorValue ignored;
    socket.set_option(Tcp::no_delay(true), ignored);
    const auto remote = socket.remote_endpoint(ignored);
    const std::string client = remote.address().to_string() + ":" + std::to_string(remote.port());
    std::shared_ptr<Connection> connection;
    if (tls_) {
      connection = std::make_shared<ConnectionOf<TlsStream>>(
          shared_, TlsStream(std::move(socket), *tls_), client);
    } else {
      connection = std::make_shared<ConnectionOf<Tcp::socket>>(shared_, std::move(socket), client);
    }
    ++count_;
    if (connections_.size() > static_cast<size_t>(2 * count_ + 16)) Alive();
    connections_.push_back(connection);
    connection->Start();
  }

  asio::io_context context_{1};
  std::shared_ptr<Shared> shared_;
  std::optional<asio::ssl::context> tls_;
  Tcp::acceptor acceptor_;
  asio::signal_set signals_;
  asio::steady_timer grace_;
  std::function<void()> on_drain_;
  std::vector<std::weak_ptr<Connection>> connections_;
  int64_t count_ = 0;
  bool accepting_ = false;
  bool stopping_ = false;
};

bool EqualIgnoringCase(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](char x, char y) {
    const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
    return lower(x) == lower(y);
  });
}

}  // namespace

std::string_view HttpRequest::Header(std::string_view name) const {
  for (const auto& [key, value] : headers) {
    if (EqualIgnoringCase(key, name)) return value;
  }
  return {};
}

Result<std::unique_ptr<HttpServer>> HttpServer::Create(const HttpOptions& options) {
  auto server = std::make_unique<AsioServer>(options);
  MOXIE_TRY(server->Listen());
  return std::unique_ptr<HttpServer>(std::move(server));
}

}  // namespace moxie::server
