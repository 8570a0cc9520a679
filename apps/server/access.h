#pragma once

#include <string>
#include <vector>

#include "server/api.h"

namespace moxie::server {

struct AccessOptions {
  std::vector<std::string> keys;     ///< any of them opens; none: no key is asked for
  std::vector<std::string> hosts;    ///< names beside the loopback ones that Host may have
  std::vector<std::string> origins;  ///< web pages that may call, as "https://chat.example"
};

/// Who may ask. On a loopback address the Host header must be a loopback name (or one of `hosts`),
/// so that a web page whose name is rebound to 127.0.0.1 reaches nothing; on other addresses, where
/// a key is always demanded, any Host is taken unless `hosts` names some. A request that a web page
/// makes (it has an Origin) must come from this server's own page or from `origins`.
class Access {
 public:
  Access(AccessOptions options, bool loopback);

  /// Status 0, or 401 or 403. `key` becomes "key1", "key2", ... for the key that was given.
  ApiError Check(const HttpRequest& request, bool needs_key, std::string& key) const;

  /// Headers that let an allowed origin read the answer; empty for requests without one.
  Headers CorsHeaders(const HttpRequest& request) const;

 private:
  bool KnownHost(std::string_view host) const;
  bool KnownOrigin(std::string_view origin, std::string_view host) const;

  AccessOptions options_;
  bool loopback_;
};

/// Whether only this machine can reach an address: "localhost", 127.0.0.0/8 or "::1".
bool IsLoopback(std::string_view host);

}  // namespace moxie::server
