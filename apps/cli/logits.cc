#include <cstdio>
#include <cstring>
#include <memory>

#include "command.h"
#include "files.h"
#include "interrupt.h"
#include "moxie/evaluate.h"
#include "moxie/routing.h"
#include "options.h"
#include "terminal.h"

namespace moxie::cli {
namespace {

struct LogitsArguments {
  ModelArguments model;
  std::string ids_file;
  std::string out;
  std::string routing;
};

/// A .npy file of float32 rows (NumPy's format 1.0, little-endian), written row by row beside its
/// final name and renamed when complete.
class NpyWriter {
 public:
  explicit NpyWriter(std::string path) : path_(std::move(path)), part_(path_ + ".part") {}
  ~NpyWriter() {
    if (file_ == nullptr) return;
    std::fclose(file_);
    std::remove(part_.c_str());
  }
  NpyWriter(const NpyWriter&) = delete;
  NpyWriter& operator=(const NpyWriter&) = delete;

  Result<void> Begin(int64_t rows, int64_t cols) {
    file_ = std::fopen(part_.c_str(), "wb");
    if (file_ == nullptr) return SystemError();
    std::string header = "{'descr': '<f4', 'fortran_order': False, 'shape': (" +
                         std::to_string(rows) + ", " + std::to_string(cols) + "), }";
    // Magic, version and length take 10 bytes; the data begins at a multiple of 64.
    header.append(63 - (10 + header.size()) % 64, ' ');
    header += '\n';
    const std::string start = std::string("\x93NUMPY\x01\x00", 8) +
                              static_cast<char>(header.size() & 0xff) +
                              static_cast<char>(header.size() >> 8) + header;
    return Write(start.data(), start.size());
  }
  Result<void> Write(const void* data, size_t bytes) {
    if (std::fwrite(data, 1, bytes, file_) == bytes) return {};
    return SystemError();
  }
  Result<void> Finish() {
    const bool closed = std::fclose(file_) == 0;
    file_ = nullptr;
    if (closed && std::rename(part_.c_str(), path_.c_str()) == 0) return {};
    const Error error = SystemError();
    std::remove(part_.c_str());
    return error;
  }

 private:
  Error SystemError() const { return {ErrorCode::kIo, path_ + ": " + std::strerror(errno)}; }
  std::string path_;
  std::string part_;
  std::FILE* file_ = nullptr;
};

Result<void> Compute(Model& model, const std::vector<TokenId>& ids,
                     const LogitsArguments& arguments) {
  NpyWriter writer(arguments.out);
  ProgressBar bar("computing logits");
  RoutingTrace trace;
  const auto write = [&](int64_t first, std::span<const float> rows) -> Result<void> {
    if (first == 0) MOXIE_TRY(writer.Begin(static_cast<int64_t>(ids.size()), model.vocab_size()));
    return writer.Write(rows.data(), rows.size_bytes());
  };
  const auto show = [&](double share) {
    bar.Show(share);
    return !InterruptGuard::Interrupted();
  };
  MOXIE_TRY(ComputeLogits(model, ids, write, arguments.routing.empty() ? nullptr : &trace, show));
  MOXIE_TRY(writer.Finish());
  if (arguments.routing.empty()) return {};
  return WriteFile(arguments.routing, FormatRoutingTrace(trace));
}

int Logits(const LogitsArguments& arguments) {
  const InterruptGuard guard;
  const Result<std::vector<TokenId>> ids = ReadIds(arguments.ids_file);
  if (!ids) return Fail("logits", ids.error());
  if (ids->empty())
    return Fail("logits", arguments.ids_file, {ErrorCode::kInvalidInput, "has no token ids"});
  ModelOptions options = arguments.model.ToOptions();
  if (options.context == 0) options.context = static_cast<int64_t>(ids->size());
  const Result<std::unique_ptr<Model>> model = Model::Open(arguments.model.model, options);
  if (!model) return Fail("logits", model.error());
  const Result<void> done = Compute(**model, *ids, arguments);
  if (done) return kDone;
  const bool about_ids = done.error().code == ErrorCode::kInvalidInput;
  return about_ids ? Fail("logits", arguments.ids_file, done.error())
                   : Fail("logits", done.error());
}

}  // namespace

void AddLogits(Program& program) {
  const auto arguments = std::make_shared<LogitsArguments>();
  CLI::App* const command =
      AddCommand(program, "logits", "Write the logits (and routing) of given tokens to files",
                 [arguments] { return Logits(*arguments); });
  AddModelOptions(*command, arguments->model);
  command
      ->add_option("--ids-file", arguments->ids_file,
                   "A JSON array of token ids; - for standard input")
      ->type_name("FILE")
      ->required();
  command
      ->add_option("--out", arguments->out,
                   "Where to write: float32 [tokens, vocab], NumPy's format")
      ->type_name("OUT.npy")
      ->required();
  command
      ->add_option("--routing", arguments->routing,
                   "Write each token's experts and weights, for each mixture layer, as JSON")
      ->type_name("OUT.json");
}

}  // namespace moxie::cli
