#include "server/connection_exchange.h"

#include <boost/beast/http/status.hpp>
#include <cstdio>
#include <utility>

namespace moxie::server {

std::string StatusLine(int status) {
  namespace http = boost::beast::http;
  const auto reason = http::obsolete_reason(static_cast<http::status>(status));
  return "HTTP/1.1 " + std::to_string(status) + " " + std::string(reason) + "\r\n";
}

void ConnectionExchange::Send(const HttpResponse& response) {
  std::string bytes = Head(response);
  bytes += "Content-Length: " + std::to_string(response.body.size()) + "\r\n\r\n";
  if (!head_only_) bytes += response.body;
  Put(bytes, true);
}

void ConnectionExchange::StartStream(const HttpResponse& head) {
  std::string bytes = Head(head);
  chunked_ = sink_ != nullptr && !sink_->http_1_0();
  bytes += chunked_ ? "Transfer-Encoding: chunked\r\n\r\n" : "\r\n";
  Put(bytes, false);
  streaming_ = true;
}

void ConnectionExchange::Write(std::string_view bytes) {
  if (bytes.empty()) return;
  if (!chunked_) return Put(std::string(bytes), false);
  char size[24];
  std::snprintf(size, sizeof(size), "%zx\r\n", bytes.size());
  std::string chunk = size;
  chunk += bytes;
  chunk += "\r\n";
  Put(chunk, false);
}

void ConnectionExchange::Abort() {
  if (const std::shared_ptr<Sink> sink = sink_) sink->Abort();
}

void ConnectionExchange::Detach() {
  if (sink_ == nullptr) return;
  sink_ = nullptr;
  detached_ = true;
  if (const auto gone = std::exchange(gone_, nullptr)) gone();
}

std::string ConnectionExchange::Head(const HttpResponse& response) const {
  std::string head = StatusLine(response.status);
  if (!response.content_type.empty()) head += "Content-Type: " + response.content_type + "\r\n";
  for (const auto& [name, value] : response.headers)
    head.append(name).append(": ").append(value).append("\r\n");
  if (sink_ != nullptr && !sink_->keeps_alive()) head += "Connection: close\r\n";
  return head;
}

void ConnectionExchange::Put(const std::string& bytes, bool last) {
  if (sink_ == nullptr) return;
  const std::shared_ptr<Sink> sink = sink_;
  sink->Keep(bytes);
  if (last) {
    gone_ = nullptr;
    sink_ = nullptr;
  }
  sink->Send(last);  // May end this object.
}

}  // namespace moxie::server
