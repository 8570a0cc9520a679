// The page at "/" and the files that it asks for, and /openapi.json.
#include "server/page_files.h"
#include "server/routes.h"

namespace moxie::server {
namespace {

std::string ContentType(std::string_view name) {
  if (name.ends_with(".html")) return "text/html; charset=utf-8";
  if (name.ends_with(".json")) return "application/json";
  if (name.ends_with(".css")) return "text/css; charset=utf-8";
  return "text/javascript; charset=utf-8";
}

}  // namespace

void GetPage(Server& /*server*/, const Call& call) {
  const std::string_view path = call.http.path;
  const std::string_view name = path == "/" ? "index.html" : path.substr(path.rfind('/') + 1);
  for (const PageFile& file : PageFiles()) {
    if (file.name != name) continue;
    return call.exchange->Send(
        {.content_type = ContentType(name),
         .body = std::string(file.bytes),
         .headers = {{"Cache-Control", "no-cache"},
                     {"Content-Security-Policy",
                      "default-src 'self'; img-src data:; style-src 'self' 'unsafe-inline'; "
                      "frame-ancestors 'none'"},
                     {"X-Content-Type-Options", "nosniff"},
                     {"Referrer-Policy", "no-referrer"}}});
  }
  ApiError error = InvalidRequest("there is no " + call.http.path + " here");
  error.status = 404;
  call.exchange->Send(ErrorResponse(error));
}

}  // namespace moxie::server
