#pragma once

#include <memory>
#include <optional>
#include <string>

#include "server/json.h"
#include "server/server.h"

namespace moxie::server {

/// A POST's body, an object, and the model that it names.
struct ModelCall {
  Json body;
  std::string model;  ///< as it was called; the first model's name where the body names none
  std::shared_ptr<ModelHost> host;
};

/// Errors: 400 for a body that is no JSON object, 404 for a model that is not served.
std::optional<ModelCall> ReadModelCall(const Server& server, const Call& call, ApiError& error);
/// The same of a body that was read already.
std::optional<ModelCall> ReadModelCall(const Server& server, Json body, ApiError& error);

}  // namespace moxie::server
