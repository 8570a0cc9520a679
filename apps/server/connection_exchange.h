#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "server/http.h"

namespace moxie::server {

/// "HTTP/1.1 404 Not Found\r\n"
std::string StatusLine(int status);

/// An answer as HTTP/1.1 bytes on a connection. Outlives it where the handler is slower than the
/// client.
class ConnectionExchange final : public Exchange {
 public:
  /// The connection that takes the bytes.
  class Sink {
   public:
    virtual ~Sink() = default;
    /// Takes bytes to send; where it throws for want of memory, none of them.
    virtual void Keep(const std::string& bytes) = 0;
    /// Sends what it has, after which, where it was the last, the answer is complete.
    virtual void Send(bool last) = 0;
    virtual void Abort() = 0;
    virtual bool http_1_0() const = 0;
    virtual bool keeps_alive() const = 0;
  };

  ConnectionExchange(std::shared_ptr<Sink> sink, bool head_only)
      : sink_(std::move(sink)), head_only_(head_only) {}

  void Send(const HttpResponse& response) override;
  void StartStream(const HttpResponse& head) override;
  void Write(std::string_view bytes) override;
  void EndStream() override { Put(chunked_ ? "0\r\n\r\n" : "", true); }
  void Abort() override;
  void OnGone(std::function<void()> gone) override { gone_ = std::move(gone); }
  bool streaming() const override { return streaming_; }
  bool gone() const override { return detached_; }

  /// The connection has ended.
  void Detach();

 private:
  std::string Head(const HttpResponse& response) const;
  void Put(const std::string& bytes, bool last);

  std::shared_ptr<Sink> sink_;
  std::function<void()> gone_;
  bool head_only_;
  bool chunked_ = false;
  bool streaming_ = false;
  std::atomic<bool> detached_ = false;
};

}  // namespace moxie::server
