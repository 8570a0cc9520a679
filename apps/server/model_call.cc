#include "server/model_call.h"

namespace moxie::server {

std::optional<ModelCall> ReadModelCall(const Server& server, const Call& call, ApiError& error) {
  std::optional<Json> body = ParseBody(call.http.body, error);
  if (!body) return std::nullopt;
  return ReadModelCall(server, std::move(*body), error);
}

std::optional<ModelCall> ReadModelCall(const Server& server, Json body, ApiError& error) {
  Fields fields(body, error);
  std::string model = fields.String("model", server.default_name());
  if (!fields.ok()) return std::nullopt;
  auto host = server.FindModel(model, error);
  if (host == nullptr) return std::nullopt;
  return ModelCall{std::move(body), std::move(model), std::move(host)};
}

}  // namespace moxie::server
