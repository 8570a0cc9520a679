#include "server/http.h"

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/thread_pool.hpp>
#include <csignal>
#include <new>
#include <optional>
#include <string>

#include "server/connection.h"

namespace moxie::server {
namespace {

class AsioServer final : public HttpServer {
 public:
  explicit AsioServer(const HttpOptions& options)
      : shared_(std::make_shared<ServerState>(options)),
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
  void Offload(std::function<void()> task) override { asio::post(helpers_, std::move(task)); }

  void Run(Handler handler, std::function<void()> on_drain) override {
    shared_->handler = std::move(handler);
    on_drain_ = std::move(on_drain);
    signals_.add(SIGINT);
    signals_.add(SIGTERM);
    AwaitSignal();
    Accept();
    RunContext();
    helpers_.stop();
    helpers_.join();
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

  /// A call that ends for want of memory where nothing could catch it leaves a connection that its
  /// deadline closes.
  void RunContext() {
    for (;;) {
      try {
        context_.run();
        return;
      } catch (const std::bad_alloc&) {
        continue;
      }
    }
  }

  void AwaitSignal() {
    WithPatience(
        [this] { signals_.async_wait([this](const ErrorValue& error, int) { OnSignal(error); }); });
  }

  void OnSignal(const ErrorValue& error) {
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
    WithPatience([this] {
      acceptor_.async_accept([this](const ErrorValue& error, Tcp::socket socket) {
        accepting_ = false;
        if (!error) Welcome(std::move(socket));
        // Out of file descriptors: the end of a connection tries again.
        if (!error || count_ == 0) Accept();
      });
    });
    accepting_ = true;
  }

  void Welcome(Tcp::socket socket) {
    ErrorValue ignored;
    socket.set_option(Tcp::no_delay(true), ignored);
    std::shared_ptr<Connection> connection;
    WithPatience([&] {
      const auto remote = socket.remote_endpoint(ignored);
      const std::string client = remote.address().to_string() + ":" + std::to_string(remote.port());
      if (connections_.size() > static_cast<size_t>(2 * count_ + 16)) Alive();
      connections_.emplace_back();
      if (tls_) {
        connection = std::make_shared<ConnectionOf<TlsStream>>(
            shared_, TlsStream(std::move(socket), *tls_), client);
      } else {
        connection =
            std::make_shared<ConnectionOf<Tcp::socket>>(shared_, std::move(socket), client);
      }
      connections_.back() = connection;
    });
    ++count_;
    connection->Start();
  }

  static constexpr size_t kHelpers = 4;

  asio::io_context context_{1};
  asio::thread_pool helpers_{kHelpers};
  std::shared_ptr<ServerState> shared_;
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
