#pragma once

#include <string>
#include <vector>

#include "moxie/machine.h"

namespace moxie::cli {

/// What this machine reaches, as moxie doctor once measured it.
struct KnownMachine {
  MachineSpeeds speeds;
  std::string folder;                ///< whose disk was measured
  std::string file;                  ///< where the figures are kept, or empty where nowhere
  bool measured_now = false;         ///< not read from the file
  std::vector<std::string> missing;  ///< what could not be measured and why, a sentence each
};

/// Reads the user's machine.json ($XDG_CACHE_HOME or ~/.cache, in moxie/). Where there is none, the
/// machine has changed since (processor, CPUs, kernel sets, memory), another folder's disk is asked
/// for, or `again`: measures, which takes some two seconds and shows a bar on a terminal, and keeps
/// the figures. `folder`: whose disk; empty: any, where there is a file, else the present one.
KnownMachine LearnMachine(const MachineReport& machine, const std::string& folder, bool again);

}  // namespace moxie::cli
