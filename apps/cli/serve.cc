#include <sys/stat.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <sstream>
#include <vector>

#include "command.h"
#include "files.h"
#include "machine_file.h"
#include "moxie/machine.h"
#include "moxie/plan.h"
#include "options.h"
#include "server/server.h"

namespace moxie::cli {
namespace {

struct ServeArguments {
  ModelArguments model;
  std::vector<std::string> models;
  std::vector<std::string> names;
  std::vector<std::string> aliases;
  std::vector<std::string> keys;
  std::string key_file;
  std::string log = "requests";
  int parallel = 4;
  int timeout_s = 60;
  server::ServeOptions options;
};

/// What a model is called where nothing was said: its file without .gguf, or its folder.
std::string NameOfPath(const std::string& path) {
  std::filesystem::path name(path);
  if (!name.has_filename()) name = name.parent_path();
  return name.extension() == ".gguf" ? name.stem().string() : name.filename().string();
}

Result<void> FillOptions(const ServeArguments& arguments, server::ServeOptions& options) {
  for (const std::string& path : arguments.models)
    options.models.push_back({NameOfPath(path), path});
  for (const std::string& name : arguments.names) {
    const size_t equals = name.find('=');
    if (equals == 0 || equals == std::string::npos || equals + 1 == name.size())
      return Error{ErrorCode::kInvalidInput, "--name is " + name + ", but must be NAME=MODEL"};
    options.models.push_back({name.substr(0, equals), name.substr(equals + 1)});
  }
  if (options.models.empty())
    return Error{ErrorCode::kInvalidInput, "no MODEL was given, nor a --name NAME=MODEL"};
  for (const std::string& alias : arguments.aliases)
    options.models.push_back({alias, options.models.front().path});
  for (const server::ServedModel& model : options.models) {
    if (std::ranges::count(options.models, model.name, &server::ServedModel::name) > 1)
      return Error{ErrorCode::kInvalidInput, "two models are called " + model.name +
                                                 "; --name NAME=MODEL gives another name"};
  }
  options.access.keys = arguments.keys;
  if (!arguments.key_file.empty()) {
    MOXIE_TRY_ASSIGN(const std::string text, ReadFile(arguments.key_file));
    std::istringstream words(text);
    for (std::string key; words >> key;) options.access.keys.push_back(key);
  }
  const auto& keys = options.access.keys;
  if (std::find(keys.begin(), keys.end(), "") != keys.end())
    return Error{ErrorCode::kInvalidInput, "--api-key is empty"};
  options.model = arguments.model.ToOptions();
  options.model.parallel = arguments.parallel;
  options.http.limits.body_s = options.http.limits.send_s = arguments.timeout_s;
  options.http.limits.idle_s = 2 * arguments.timeout_s;  // Kept connections wait for a request.
  options.log = arguments.log == "none"      ? server::LogLevel::kNone
                : arguments.log == "prompts" ? server::LogLevel::kPrompts
                                             : server::LogLevel::kRequests;
  return {};
}

/// What moxie doctor found of the disk that the model lies on, or finds now where it never looked;
/// 0 where the model does not need it, or another disk was measured.
double DiskBytesPerSecond(const ModelHead& head) {
  const Result<ModelPlan> plan = PlanModel(head);
  if (!plan || !plan->streamed) return 0;  // Opening says what is wrong.
  MachineReport machine = InspectMachine();
  // Measuring keeps to the budget's order of magnitude, as it does to the machine's limits.
  machine.memory_limit_bytes = std::min(machine.memory_limit_bytes, plan->options.memory_bytes);
  const KnownMachine known = LearnMachine(machine, "", false);
  struct stat measured {
  }, wanted{};
  const bool same_disk = stat(known.folder.c_str(), &measured) == 0 &&
                         stat(head.path().c_str(), &wanted) == 0 &&
                         measured.st_dev == wanted.st_dev;
  return same_disk ? known.speeds.disk_bytes_per_s : 0;
}

int RunServe(const ServeArguments& arguments) {
  server::ServeOptions options = arguments.options;
  Result<void> done = FillOptions(arguments, options);
  options.disk_bytes_per_s = DiskBytesPerSecond;
  if (done) {
    done = server::Serve(options, [](const std::string& url) {
      std::fprintf(stderr, "listening on %s\n", url.c_str());
    });
  }
  return done ? kDone : Fail("serve", done.error());
}

void AddServerOptions(CLI::App& command, ServeArguments& arguments) {
  constexpr char kGroup[] = "Server options";
  server::ServeOptions& options = arguments.options;
  const auto add = [&](const char* name, auto& value, const char* type, const char* description) {
    return command.add_option(name, value, description)->type_name(type)->group(kGroup);
  };
  const auto add_list = [&](const char* name, std::vector<std::string>& values, const char* type,
                            const char* description) {
    add(name, values, type, description)->expected(1)->take_all();
  };
  add("--host", options.http.host, "HOST",
      "Address to listen on; others than loopback ones demand an API key")
      ->default_str(options.http.host);
  add("--port", options.http.port, "PORT", "Port to listen on; 0 takes one that is free")
      ->default_str("8080")
      ->check(CLI::Range(0, 65535).description("0..65535"));
  add_list("--name", arguments.names, "NAME=MODEL", "Serves MODEL as NAME; may be repeated");
  add_list("--alias", arguments.aliases, "NAME",
           "A further name of the first model; may be repeated");
  add("--parallel", arguments.parallel, "N",
      "Answers that are computed at once, each with a context")
      ->default_str("4")
      ->check(CLI::Range(1, 4096).description("1..4096"));
  add_list("--api-key", arguments.keys, "KEY", "A key that opens; may be repeated");
  add("--api-key-file", arguments.key_file, "FILE",
      "Keys from a file, one a line, where other users of this machine cannot see them");
  add_list("--allow-host", options.access.hosts, "NAME",
           "A further name that the Host header may have; may be repeated");
  add_list("--allow-origin", options.access.origins, "URL",
           "A web page that may call, such as https://chat.example; may be repeated");
  add("--tls-cert", options.http.tls_certificate, "FILE", "Certificate chain in PEM: serves https");
  add("--tls-key", options.http.tls_key, "FILE", "Private key of --tls-cert in PEM");
  add("--timeout", arguments.timeout_s, "SECONDS",
      "Longest that a client may take to send its headers, its body, or to take what is ready for "
      "it")
      ->default_str("60")
      ->check(CLI::Range(1, 86400).description("1..86400"));
  add("--log", arguments.log, "WHAT", "What is logged on standard error, as JSON lines")
      ->default_str("requests")
      ->check(
          CLI::IsMember({"none", "requests", "prompts"}).description("none, requests, prompts"));
}

}  // namespace

void AddServe(Program& program) {
  const auto arguments = std::make_shared<ServeArguments>();
  CLI::App* const command =
      AddCommand(program, "serve", "Serve models over HTTP, in OpenAI's and Anthropic's protocols",
                 [arguments] { return RunServe(*arguments); });
  command
      ->add_option("MODEL", arguments->models,
                   "A .gguf file (the first of a split set), or a folder: Hugging Face "
                   "(config.json) or Mistral's consolidated (params.json); may be repeated")
      ->expected(0, -1);
  AddRunOptions(*command, arguments->model);
  AddServerOptions(*command, *arguments);
  command->footer(
      "Examples:\n"
      "  moxie serve model.gguf\n"
      "  moxie serve --name small=a.gguf --name large=b.gguf --parallel 16\n"
      "  moxie serve model.gguf --host 0.0.0.0 --api-key-file keys.txt --tls-cert c.pem "
      "--tls-key k.pem");
}

}  // namespace moxie::cli
