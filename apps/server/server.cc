#include "server/server.h"

#include <algorithm>
#include <new>

#include "moxie/machine.h"
#include "server/json.h"
#include "server/patience.h"
#include "server/routes.h"

namespace moxie::server {
namespace {

struct RouteEntry {
  const char* method;
  const char* path;  ///< ends with '/' where it is a beginning
  void (*handle)(Server&, const Call&) = nullptr;
  /// Instead of `handle`, where reading the call may take long.
  Continuation (*prepare)(Server&, const Call&) = nullptr;
  bool needs_key = true;
};

constexpr RouteEntry kRoutes[] = {
    {"GET", "/", GetPage, nullptr, false},
    {"GET", "/page/", GetPage, nullptr, false},
    {"GET", "/openapi.json", GetPage, nullptr, false},
    {"GET", "/health", GetHealth, nullptr, false},
    {"GET", "/ready", GetReady, nullptr, false},
    {"GET", "/metrics", GetMetrics},
    {"GET", "/props", GetProps},
    {"GET", "/slots", GetSlots},
    {"GET", "/moxie/stats", GetStats},
    {"POST", "/moxie/reload", PostReload},
    {"GET", "/v1/models", GetModels},
    {"GET", "/v1/models/", GetModel},
    {"POST", "/v1/completions", nullptr, PrepareCompletions},
    {"POST", "/v1/chat/completions", nullptr, PrepareChatCompletions},
    {"POST", "/v1/responses", nullptr, PrepareResponses},
    {"POST", "/v1/embeddings", nullptr, PrepareEmbeddings},
    {"POST", "/v1/messages", nullptr, PrepareMessages},
    {"POST", "/v1/messages/count_tokens", nullptr, PrepareCountTokens},
    {"POST", "/tokenize", nullptr, PrepareTokenize},
    {"POST", "/detokenize", nullptr, PrepareDetokenize},
    {"GET", "/tokenizer_info", GetTokenizerInfo},
};

bool Matches(const RouteEntry& route, const std::string& path) {
  const std::string_view pattern = route.path;
  if (pattern.size() > 1 && pattern.ends_with('/'))
    return path.size() > pattern.size() && path.starts_with(pattern);
  return path == pattern;
}

/// Printable, and short enough to be repeated in headers and logs.
bool IsTame(std::string_view id) {
  return !id.empty() && id.size() <= 128 &&
         std::all_of(id.begin(), id.end(), [](char c) { return c > ' ' && c < 0x7f && c != '"'; });
}

/// Adds to every answer what all have in common, and logs it when it is complete.
class TrackedExchange final : public Exchange {
 public:
  TrackedExchange(ExchangePtr inner, Headers headers, const Log& log, OrderedJson fields)
      : inner_(std::move(inner)),
        headers_(std::move(headers)),
        log_(log),
        fields_(std::move(fields)),
        start_(std::chrono::steady_clock::now()) {}
  ~TrackedExchange() override { Finish(false); }

  void Send(const HttpResponse& response) override {
    inner_->Send(WithHeaders(response));
    Finish(true);
  }
  void StartStream(const HttpResponse& head) override { inner_->StartStream(WithHeaders(head)); }
  void Write(std::string_view bytes) override { inner_->Write(bytes); }
  void EndStream() override {
    inner_->EndStream();
    Finish(true);
  }
  void Abort() override { inner_->Abort(); }
  void OnGone(std::function<void()> gone) override { inner_->OnGone(std::move(gone)); }
  bool streaming() const override { return inner_->streaming(); }
  bool gone() const override { return inner_->gone(); }

 private:
  HttpResponse WithHeaders(const HttpResponse& response) {
    status_ = response.status;
    HttpResponse all = response;
    all.headers.insert(all.headers.end(), headers_.begin(), headers_.end());
    return all;
  }

  void Finish(bool complete) {
    if (logged_) return;
    logged_ = true;
    const std::chrono::duration<double, std::milli> ms = std::chrono::steady_clock::now() - start_;
    try {
      fields_["status"] = status_;
      fields_["ms"] = std::round(ms.count() * 1000) / 1000;
      if (!complete) fields_["gone"] = true;
      log_.Write("request", fields_);
    } catch (const std::bad_alloc&) {
      return;  // The answer is worth more than the line about it.
    }
  }

  ExchangePtr inner_;
  Headers headers_;
  const Log log_;  // Its own: it may outlive the server.
  OrderedJson fields_;
  std::chrono::steady_clock::time_point start_;
  int status_ = 0;
  bool logged_ = false;
};

}  // namespace

Server::~Server() {
  stopping_ = true;
  if (reloader_.joinable()) reloader_.join();
  for (const auto& known : hosts_) {
    if (const auto host = known.lock()) host->Stop();
  }
}

Server::Server(const ServeOptions& options, HttpServer& http)
    : options_(options),
      http_(http),
      access_(options.access, IsLoopback(options.http.host)),
      log_(options.log) {}

Result<std::shared_ptr<ModelHost>> Server::Open(ModelHead head) const {
  return ModelHost::Open(
      std::move(head), [&http = http_](std::function<void()> task) { http.Post(std::move(task)); });
}

DecodeBound Server::BoundOf(const ModelHost& host, const EngineStats& stats) const {
  MachineSpeeds machine;
  machine.memory_bytes_per_s = memory_bytes_per_s_;
  const auto disk = disk_bytes_per_s_.find(host.description().path);
  if (disk != disk_bytes_per_s_.end()) machine.disk_bytes_per_s = disk->second;
  return BoundDecoding(host.model(), machine, stats.decode_expert_store);
}

Result<void> Server::OpenModels() {
  // Before the models need the memory.
  constexpr int64_t kMeasuredBytes = 128 << 20;
  const int threads = options_.model.threads;
  MOXIE_TRY_ASSIGN(
      memory_bytes_per_s_,
      MeasureMemoryBandwidth(threads > 0 ? threads : InspectMachine().usable_cpus, kMeasuredBytes));
  std::map<std::string, std::shared_ptr<ModelHost>> by_path;
  for (const ServedModel& served : options_.models) {
    std::shared_ptr<ModelHost>& host = by_path[served.path];
    if (host == nullptr) {
      MOXIE_TRY_ASSIGN(ModelHead head, ModelHead::Read(served.path, options_.model));
      if (options_.disk_bytes_per_s)
        disk_bytes_per_s_[served.path] = options_.disk_bytes_per_s(head);
      MOXIE_TRY_ASSIGN(host, Open(std::move(head)));
      hosts_.push_back(host);
    }
    models_[served.name] = host;
  }
  return {};
}

void Server::Reload(const std::string& name, ReloadHandler done) {
  if (reloading_.exchange(true))
    return done(Error{ErrorCode::kInvalidInput, "a model is being reloaded already"});
  if (reloader_.joinable()) reloader_.join();
  const auto served = std::ranges::find(options_.models, name, &ServedModel::name);
  ModelOptions model = options_.model;
  model.on_load = [this](const LoadProgress&) { return !stopping_; };
  reloader_ = std::thread([this, path = served->path, model, done = std::move(done)] {
    const auto open = [&]() -> Result<std::shared_ptr<ModelHost>> {
      MOXIE_TRY_ASSIGN(ModelHead head, ModelHead::Read(path, model));
      return Open(std::move(head));
    };
    auto opened = std::make_shared<Result<std::shared_ptr<ModelHost>>>(open());
    http_.Post([this, path, opened, done] {
      reloading_ = false;
      if (*opened) Replace(path, **opened);
      done(std::move(*opened));
    });
  });
}

void Server::Replace(const std::string& path, const std::shared_ptr<ModelHost>& host) {
  std::erase_if(hosts_, [](const auto& known) { return known.expired(); });
  hosts_.push_back(host);
  const std::lock_guard lock(models_mutex_);
  for (const ServedModel& served : options_.models) {
    if (served.path == path) models_[served.name] = host;
  }
}

std::shared_ptr<ModelHost> Server::FindModel(const std::string& name, ApiError& error) const {
  {
    const std::lock_guard lock(models_mutex_);
    const auto found = models_.find(name);
    if (found != models_.end()) return found->second;
  }
  error = {.status = 404,
           .message = "there is no model " + name + " here (GET /v1/models lists them)",
           .type = "invalid_request_error",
           .param = "model",
           .code = "model_not_found"};
  return nullptr;
}

void Server::Handle(HttpRequest request, ExchangePtr exchange) {
  reserve_.Refill();
  const std::string_view given = request.Header("x-request-id");
  Call call{std::move(request), nullptr, IsTame(given) ? std::string(given) : RandomId("req_"), ""};
  const ApiError refused = [&] {
    bool needs_key = true;
    for (const RouteEntry& route : kRoutes)
      if (Matches(route, call.http.path) && !route.needs_key) needs_key = false;
    if (call.http.method == "OPTIONS") needs_key = false;
    return access_.Check(call.http, needs_key, call.key);
  }();
  Headers headers = {{"X-Request-Id", call.id}};
  if (refused.status != 403) {
    for (auto& header : access_.CorsHeaders(call.http)) headers.push_back(std::move(header));
  }
  OrderedJson fields{{"id", call.id},
                     {"client", call.http.client},
                     {"method", call.http.method},
                     {"path", call.http.path}};
  if (!call.key.empty()) fields["key"] = call.key;
  const std::string_view trace = call.http.Header("traceparent");
  if (IsTame(trace)) fields["traceparent"] = trace;
  if (log_.prompts()) fields["body"] = call.http.body;
  call.exchange = std::make_shared<TrackedExchange>(std::move(exchange), std::move(headers), log_,
                                                    std::move(fields));
  try {
    if (refused.status != 0) return call.exchange->Send(ErrorResponse(refused));
    Route(call);
  } catch (const std::bad_alloc&) {
    RefuseForMemory(*call.exchange);
  }
}

void Server::RefuseForMemory(Exchange& exchange) {
  try {
    WithPatience([&] { SendError(exchange, NoMemory()); });
  } catch (const std::bad_alloc&) {
    exchange.Abort();
  }
}

/// Long texts, schemas and conversations take their time, during which streams go on.
void Server::Prepare(const Call& call, Preparation prepare) {
  if (preparing >= options_.limits.unfinished)
    return call.exchange->Send(ErrorResponse(QueueFull(preparing, "requests to read")));
  struct Prepared {
    Call call;
    Continuation rest;
  };
  const auto shared = std::make_shared<Prepared>(Prepared{call, nullptr});
  const auto go_on = std::make_shared<std::function<void()>>([this, shared] {
    --preparing;
    // Nothing of the call stays in the other thread: it belongs to the server's.
    const Prepared own = std::move(*shared);
    if (own.call.exchange->gone()) return;
    if (!own.rest) return RefuseForMemory(*own.call.exchange);
    try {
      own.rest();
    } catch (const std::bad_alloc&) {
      RefuseForMemory(*own.call.exchange);
    }
  });
  http_.Offload([this, shared, go_on, prepare] {
    try {
      if (!shared->call.exchange->gone()) shared->rest = prepare(*this, shared->call);
    } catch (const std::bad_alloc&) {
      shared->rest = nullptr;
    }
    WithPatience([&] { http_.Post([go_on] { (*go_on)(); }); });
  });
  ++preparing;
}

void Server::Route(const Call& call) {
  if (call.http.method == "OPTIONS")
    return call.exchange->Send({.status = 204, .content_type = ""});
  std::string allowed;
  const std::string method = call.http.method == "HEAD" ? "GET" : call.http.method;
  for (const RouteEntry& route : kRoutes) {
    if (!Matches(route, call.http.path)) continue;
    allowed = route.method;
    if (method != allowed) continue;
    return route.prepare != nullptr ? Prepare(call, route.prepare) : route.handle(*this, call);
  }
  ApiError error = InvalidRequest("there is no " + call.http.path + " here");
  error.status = 404;
  if (!allowed.empty()) {
    error = InvalidRequest(call.http.path + " takes " + allowed);
    error.status = 405;
  }
  HttpResponse response = ErrorResponse(error);
  if (!allowed.empty()) response.headers.emplace_back("Allow", allowed);
  call.exchange->Send(response);
}

Result<void> Serve(const ServeOptions& options,
                   const std::function<void(const std::string& url)>& on_ready) {
  if (!IsLoopback(options.http.host) && options.access.keys.empty())
    return Error{ErrorCode::kInvalidInput,
                 "--host " + options.http.host +
                     " can be reached by others: give --api-key or --api-key-file too"};
  MOXIE_TRY_ASSIGN(const std::unique_ptr<HttpServer> http, HttpServer::Create(options.http));
  Server server(options, *http);
  MOXIE_TRY(server.OpenModels());
  const std::string scheme = options.http.tls_certificate.empty() ? "http" : "https";
  const bool is_v6 = options.http.host.find(':') != std::string::npos;
  const std::string host = is_v6 ? "[" + options.http.host + "]" : options.http.host;
  on_ready(scheme + "://" + host + ":" + std::to_string(http->port()));
  http->Run([&](HttpRequest request,
                ExchangePtr exchange) { server.Handle(std::move(request), std::move(exchange)); },
            [&] { server.StartDraining(); });
  return {};
}

}  // namespace moxie::server
