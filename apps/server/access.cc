#include "server/access.h"

#include <algorithm>

namespace moxie::server {
namespace {

/// "example.com:8080" -> "example.com", "[::1]:8080" -> "::1".
std::string_view WithoutPort(std::string_view host) {
  if (host.starts_with('[')) return host.substr(1, host.find(']') - 1);
  return host.substr(0, host.find(':'));
}

/// Takes as long for a wrong key as for a right one of its length.
bool SameSecret(std::string_view given, std::string_view key) {
  unsigned difference = given.size() == key.size() ? 0 : 1;
  for (size_t i = 0; i < given.size(); ++i)
    difference |= static_cast<unsigned char>(given[i] ^ key[i % key.size()]);
  return difference == 0;
}

std::string_view GivenKey(const HttpRequest& request) {
  const std::string_view bearer = request.Header("authorization");
  constexpr std::string_view kScheme = "Bearer ";
  if (bearer.starts_with(kScheme)) return bearer.substr(kScheme.size());
  return request.Header("x-api-key");
}

ApiError Refused(int status, std::string message, std::string code) {
  return {.status = status,
          .message = std::move(message),
          .type = status == 401 ? "authentication_error" : "permission_error",
          .param = {},
          .code = std::move(code)};
}

}  // namespace

bool IsLoopback(std::string_view host) {
  return host == "localhost" || host == "::1" || host.starts_with("127.");
}

Access::Access(AccessOptions options, bool loopback)
    : options_(std::move(options)), loopback_(loopback) {}

bool Access::KnownHost(std::string_view host) const {
  const std::string_view name = WithoutPort(host);
  if (std::find(options_.hosts.begin(), options_.hosts.end(), name) != options_.hosts.end())
    return true;
  // "127.example.com" is no loopback address.
  const bool address = name.find_first_not_of("0123456789.") == std::string_view::npos;
  if (IsLoopback(name) && (address || !name.starts_with("127."))) return true;
  return !loopback_ && options_.hosts.empty();
}

bool Access::KnownOrigin(std::string_view origin, std::string_view host) const {
  if (std::find(options_.origins.begin(), options_.origins.end(), origin) != options_.origins.end())
    return true;
  const size_t scheme = origin.find("://");
  return scheme != std::string_view::npos && origin.substr(scheme + 3) == host;
}

ApiError Access::Check(const HttpRequest& request, bool needs_key, std::string& key) const {
  const std::string_view host = request.Header("host");
  const std::string_view origin = request.Header("origin");
  if (!KnownHost(host))
    return Refused(403, "the Host header names no host of this server (see --allow-host)", "host");
  if (!origin.empty() && !KnownOrigin(origin, host))
    return Refused(403, "pages of this Origin may not call this server (see --allow-origin)",
                   "origin");
  if (options_.keys.empty() || !needs_key) return {};
  const std::string_view given = GivenKey(request);
  for (size_t i = 0; i < options_.keys.size(); ++i) {
    if (!SameSecret(given, options_.keys[i])) continue;
    key = "key" + std::to_string(i + 1);
    return {};
  }
  return Refused(401,
                 given.empty() ? "an API key is needed: Authorization: Bearer KEY"
                               : "this API key is not known",
                 "invalid_api_key");
}

Headers Access::CorsHeaders(const HttpRequest& request) const {
  const std::string_view origin = request.Header("origin");
  if (origin.empty()) return {};
  return {{"Access-Control-Allow-Origin", std::string(origin)},
          {"Access-Control-Allow-Methods", "GET, POST, OPTIONS"},
          {"Access-Control-Allow-Headers", "Authorization, Content-Type, X-Api-Key, X-Request-Id"},
          {"Vary", "Origin"}};
}

}  // namespace moxie::server
