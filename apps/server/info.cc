// What the server and its models are.
#include <algorithm>
#include <set>

#include "server/model_call.h"
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

void GetSlots(Server& server, const Call& call) {
  OrderedJson slots = OrderedJson::array();
  std::set<const ModelHost*> seen;  // A model that has several names.
  for (const auto& [name, host] : server.models()) {
    if (!seen.insert(host.get()).second) continue;
    const std::vector<RunningStats> running = host->engine().Stats().requests;
    for (int i = 0; i < std::max(host->options().parallel, static_cast<int>(running.size())); ++i) {
      const bool busy = i < std::ssize(running);
      OrderedJson slot{{"id", slots.size()},
                       {"model", name},
                       {"n_ctx", host->model().context()},
                       {"is_processing", busy}};
      if (busy) {
        const RunningStats& stats = running[static_cast<size_t>(i)];
        slot["id_task"] = stats.request;
        slot["prompt_tokens"] = stats.prompt_tokens;
        slot["prompt_done"] = stats.prompt_done;
        slot["generated_tokens"] = stats.generated_tokens;
      }
      slots.push_back(std::move(slot));
    }
  }
  call.exchange->Send({.body = ToText(slots)});
}

void PostReload(Server& server, const Call& call) {
  ApiError error;
  const auto asked = ReadModelCall(server, call, error);
  if (!asked) return call.exchange->Send(ErrorResponse(error));
  server.Reload(asked->model, [exchange = call.exchange, name = asked->model](
                                  const Result<std::shared_ptr<ModelHost>>& host) {
    if (!host) {
      ApiError failed = FromError(host.error());
      if (failed.status == 400) failed.status = 409;  // The request was right, the time was not.
      return exchange->Send(ErrorResponse(failed));
    }
    exchange->Send(
        {.body = ToText({{"model", name}, {"load_s", (*host)->model().load_seconds()}})});
  });
}

}  // namespace moxie::server
