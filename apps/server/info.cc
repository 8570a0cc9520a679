// What the server and its models are.
#include "server/json.h"
#include "server/routes.h"

namespace moxie::server {

namespace {

OrderedJson ModelJson(const std::string& name, const ModelHost& host) {
  const ModelDescription& description = host.description();
  return {{"id", name},
          {"object", "model"},
          {"created", host.opened_at()},
          {"owned_by", "moxie"},
          {"max_model_len", host.model().context()},
          {"meta",
           {{"family", description.family},
            {"parameters", description.parameters},
            {"active_parameters", description.active_parameters},
            {"file_bytes", description.file_bytes},
            {"vocab_size", description.vocab_size},
            {"trained_context", description.context_length}}}};
}

}  // namespace

void GetProps(Server& server, const Call& call) {
  const ModelHost& host = *server.models().at(server.default_name());
  call.exchange->Send(
      {.body = ToText({{"model", server.default_name()},
                       {"total_slots", server.options().model.parallel},
                       {"default_generation_settings", {{"n_ctx", host.model().context()}}},
                       {"chat_template", host.description().chat_template}})});
}

void GetHealth(Server& /*server*/, const Call& call) {
  call.exchange->Send({.body = R"({"status":"ok"})"});
}

void GetReady(Server& server, const Call& call) {
  if (server.draining())
    return call.exchange->Send({.status = 503, .body = R"({"status":"stopping"})"});
  call.exchange->Send({.body = R"({"status":"ready"})"});
}

void GetModels(Server& server, const Call& call) {
  OrderedJson data = OrderedJson::array();
  for (const auto& [name, host] : server.models()) data.push_back(ModelJson(name, *host));
  call.exchange->Send({.body = ToText({{"object", "list"}, {"data", std::move(data)}})});
}

void GetModel(Server& server, const Call& call) {
  ApiError error;
  const std::string name = call.http.path.substr(std::string("/v1/models/").size());
  const auto host = server.FindModel(name, error);
  if (host == nullptr) return call.exchange->Send(ErrorResponse(error));
  call.exchange->Send({.body = ToText(ModelJson(name, *host))});
}

}  // namespace moxie::server
