#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "moxie/model.h"
#include "moxie/plan.h"
#include "server/access.h"
#include "server/api.h"
#include "server/http.h"
#include "server/latencies.h"
#include "server/log.h"
#include "server/memory_reserve.h"
#include "server/model_host.h"

namespace moxie::server {

/// Limits of one request; each is refused with a sentence that names it.
struct RequestLimits {
  int64_t choices = 16;      ///< n times prompts, but lists of prompts alone may have
  int64_t prompts = 256;     ///< this many
  int64_t unfinished = 512;  ///< choices queued and running, of all users together
  int64_t stop_strings = 16;
  int64_t stop_bytes = 256;
  int64_t logit_biases = 1024;
  int64_t top_logprobs = 20;
};

struct ServedModel {
  std::string name;
  std::string path;
};

struct ServeOptions {
  HttpOptions http;
  AccessOptions access;
  RequestLimits limits;
  ModelOptions model;
  std::vector<ServedModel> models;  ///< at least one; names and paths may repeat each other
  /// What the disk of a model gives, where its experts will be read from it; 0: they
  /// will not, or it is not known. Called before the model is opened: measuring takes memory.
  std::function<double(const ModelHead& model)> disk_bytes_per_s;
  LogLevel log = LogLevel::kRequests;
};

/// Opens the models and serves them until a signal asks to stop. `on_ready` is called with the
/// server's URL once it answers.
///
/// Errors: those of Model::Open and HttpServer::Create; kInvalidInput for an address that others
/// can reach without an API key.
Result<void> Serve(const ServeOptions& options,
                   const std::function<void(const std::string& url)>& on_ready);

/// What the routes share. Used in the server's thread only, but for options and FindModel.
class Server {
 public:
  Server(const ServeOptions& options, HttpServer& http);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  Result<void> OpenModels();

  /// Opens the files of a served model once more, in a thread of its own; from then on requests go
  /// to the new one, while answers under way finish on the old. `done` is called in the server's
  /// thread.
  /// Errors: those of Model::Open (also for want of memory for both), kInvalidInput where another
  /// reload is under way. The old one goes on then.
  using ReloadHandler = std::function<void(Result<std::shared_ptr<ModelHost>>)>;
  void Reload(const std::string& name, ReloadHandler done);
  void Handle(HttpRequest request, ExchangePtr exchange);
  void StartDraining() { draining_ = true; }

  const ServeOptions& options() const { return options_; }
  HttpServer& http() { return http_; }
  Log& log() { return log_; }
  bool draining() const { return draining_; }

  /// The model that a request names; the first one where it names none.
  /// Errors: 404 with OpenAI's code model_not_found.
  std::shared_ptr<ModelHost> FindModel(const std::string& name, ApiError& error) const;
  const std::map<std::string, std::shared_ptr<ModelHost>>& models() const { return models_; }
  /// What memory, measured at the start, and the model's disk allow one answer, with the hits of
  /// the experts' cache so far.
  DecodeBound BoundOf(const ModelHost& host, const EngineStats& stats) const;
  const std::string& default_name() const { return options_.models.front().name; }

  int64_t unfinished = 0;  ///< choices queued and running
  int64_t preparing = 0;   ///< calls that are read in other threads
  Latencies latencies;

 private:
  using Preparation = Continuation (*)(Server&, const Call&);

  void Route(const Call& call);
  static void RefuseForMemory(Exchange& exchange);
  void Prepare(const Call& call, Preparation prepare);
  Result<std::shared_ptr<ModelHost>> Open(ModelHead head) const;
  void Replace(const std::string& path, const std::shared_ptr<ModelHost>& host);

  ServeOptions options_;
  HttpServer& http_;
  Access access_;
  Log log_;
  mutable std::mutex models_mutex_;  // Held where models_ is written, or read by another thread.
  std::map<std::string, std::shared_ptr<ModelHost>> models_;
  std::vector<std::weak_ptr<ModelHost>> hosts_;  // Also those that only finish what they began.
  MemoryReserve reserve_;
  double memory_bytes_per_s_ = 0;
  std::map<std::string, double> disk_bytes_per_s_;  // By a model's path; not written once serving.
  std::thread reloader_;
  std::atomic<bool> reloading_ = false;
  std::atomic<bool> stopping_ = false;
  bool draining_ = false;
};

}  // namespace moxie::server
