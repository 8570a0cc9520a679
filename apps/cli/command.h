#pragma once

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <functional>
#include <string>

#include "moxie/result.h"

namespace moxie::cli {

/// Exit statuses, as documented in `moxie --help`.
inline constexpr int kDone = 0;
inline constexpr int kBadInput = 1;
inline constexpr int kBadUsage = 2;
inline constexpr int kInterrupted = 130;

/// What a subcommand does once its options are parsed. Returns the exit status.
using Action = std::function<int()>;

/// The program while it declares its subcommands; the one that was called leaves its action here.
struct Program {
  CLI::App app;
  Action action;
};

/// Declares a subcommand. `run` is called after parsing.
CLI::App* AddCommand(Program& program, const std::string& name, const std::string& description,
                     Action run);

// One function for each subcommand, in the file of its name.
void AddRun(Program& program);
void AddChat(Program& program);
void AddServe(Program& program);
void AddTokenize(Program& program);
void AddDetokenize(Program& program);
void AddLogits(Program& program);
void AddPerplexity(Program& program);
void AddInspect(Program& program);
void AddConvert(Program& program);
void AddQuantize(Program& program);
void AddImportance(Program& program);
void AddPlan(Program& program);
void AddUpcycle(Program& program);
void AddBench(Program& program);
void AddDoctor(Program& program);
void AddCompletion(Program& program);
void AddManual(Program& program);

/// Prints `moxie COMMAND: MESSAGE` on standard error, in one line whatever the message holds, and
/// returns the exit status that goes with the error.
int Fail(const std::string& command, const Error& error);

/// The same for errors that do not name the file they are about.
int Fail(const std::string& command, const std::string& file, const Error& error);

}  // namespace moxie::cli
