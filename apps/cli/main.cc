#include <unistd.h>

#include <CLI/Error.hpp>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <new>
#include <string>
#include <system_error>

#include "command.h"
#include "help.h"
#include "terminal.h"

namespace moxie::cli {
namespace {

/// Files' heads and what must be rearranged are read through mappings: one that is cut short in
/// that moment, or a disk that fails, gives this signal and no result of a call.
void SayThatAFileWasCut(int) {
  constexpr char kText[] =
      "moxie: a file of the model was cut short or could not be read while it was being read\n";
  static_cast<void>(!write(STDERR_FILENO, kText, sizeof(kText) - 1));
  _exit(kBadInput);
}

constexpr char kNoMemory[] = "moxie: the system has not the memory to go on\n";
const std::terminate_handler kSayBug = std::get_terminate();

/// Memory is refused where no call can say so: to a destructor, or in another thread than the
/// first.
[[noreturn]] void SayThatMemoryIsRefused() {
  static std::atomic<bool> said{false};
  while (said.exchange(true)) pause();  // The other threads end with the first that comes here.
  try {
    if (const std::exception_ptr problem = std::current_exception())
      std::rethrow_exception(problem);
  } catch (const std::bad_alloc&) {
    static_cast<void>(!write(STDERR_FILENO, kNoMemory, sizeof(kNoMemory) - 1));
    _exit(kBadInput);
  } catch (...) {
    kSayBug();
  }
  std::abort();
}

void Declare(Program& program) {
  program.app.name("moxie");
  program.app.description(
      "moxie " MOXIE_VERSION
      " runs Mixtral-family mixtures of experts, and the dense models beside them.");
  program.app.set_version_flag("--version", "moxie " MOXIE_VERSION, "Show the version and exit");
  program.app.require_subcommand(1);
  AddRun(program);
  AddChat(program);
  AddServe(program);
  AddTokenize(program);
  AddDetokenize(program);
  AddLogits(program);
  AddPerplexity(program);
  AddInspect(program);
  AddConvert(program);
  AddQuantize(program);
  AddImportance(program);
  AddPlan(program);
  AddUpcycle(program);
  AddBench(program);
  AddDoctor(program);
  AddCompletion(program);
  AddManual(program);
  // Set last: subcommands would inherit it.
  program.app.footer(
      "MODEL is a .gguf file or a model folder; `moxie COMMAND --help` says more.\n"
      "Answers go to standard output, everything else to standard error. Exit status: 0 done,\n"
      "1 the input could not be used (one line says why), 2 wrong usage, 130 after Ctrl-C.");
  UseHelpText(program.app);
}

/// What was wrong with the usage, in one line; or the text that --help and --version ask for.
int Report(const Program& program, const CLI::ParseError& error, const char* first_argument) {
  const auto chosen = program.app.get_subcommands();
  const CLI::App& command = chosen.empty() ? program.app : *chosen.front();
  if (error.get_name() == "CallForHelp") {
    Print(HelpText(DescribeCommand(command)));
    return kDone;
  }
  if (error.get_name() == "CallForVersion") {
    Print(std::string(error.what()) + "\n");
    return kDone;
  }
  const std::string name = DescribeCommand(command).name;
  std::string reason = error.what();
  if (chosen.empty() && *first_argument != '-')
    reason = std::string(first_argument) + " is no command of moxie";
  reason = reason.substr(0, reason.find('\n'));
  std::fprintf(stderr, "%s: %s (see %s --help)\n", name.c_str(), reason.c_str(), name.c_str());
  return kBadUsage;
}

int Main(int argc, char** argv) {
  std::signal(SIGBUS, SayThatAFileWasCut);
  std::set_terminate(SayThatMemoryIsRefused);
  Program program;
  Declare(program);
  if (argc < 2) {
    std::fputs(HelpText(DescribeCommand(program.app)).c_str(), stderr);
    return kBadUsage;
  }
  try {
    program.app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return Report(program, error, argv[1]);
  }
  return program.action();
}

}  // namespace
}  // namespace moxie::cli

int main(int argc, char** argv) try {
  return moxie::cli::Main(argc, argv);
} catch (const std::bad_alloc&) {
  std::fputs(moxie::cli::kNoMemory, stderr);
  return moxie::cli::kBadInput;
} catch (const std::system_error& error) {  // A thread that cannot be started.
  std::fprintf(stderr, "moxie: %s\n", error.what());
  return moxie::cli::kBadInput;
}
