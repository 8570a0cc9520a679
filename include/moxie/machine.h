#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "moxie/result.h"

namespace moxie {

/// A kernel set of this binary and whether this machine can run it.
struct KernelSetReport {
  std::string name;
  bool usable = false;
  std::string needs;  ///< of the processor and the system, in words
  bool best = false;  ///< what "auto" takes
};

/// What this machine offers. Fields that could not be found out are 0 or empty.
struct MachineReport {
  std::string processor;
  std::string operating_system;
  int cpus = 0;         ///< of the machine
  int usable_cpus = 0;  ///< affinity mask and cgroup quota
  std::vector<KernelSetReport> kernel_sets;
  int64_t memory_bytes = 0;
  int64_t memory_available_bytes = 0;  ///< besides what is occupied now, cgroup limits included
  int64_t memory_limit_bytes = 0;      ///< the least of memory, cgroup limits and RLIMIT_AS
  std::string memory_limit_by;         ///< "machine", "cgroup" or "rlimit"
};

/// Looks at the machine; measures nothing.
MachineReport InspectMachine();

/// What this process may use where nobody says: what it holds already and the machine has
/// available, as far as the limits in force allow, less a sixteenth of that (at least 64 MiB, at
/// most 1 GiB) for everything else.
int64_t AutomaticMemoryBytes(const MachineReport& machine);

/// Bytes a second that `threads` threads together read from memory: the best of several passes
/// over a buffer far larger than the caches (`bytes`, at least 64 MiB).
Result<double> MeasureMemoryBandwidth(int threads, int64_t bytes = int64_t{256} << 20);

/// Multiplications and additions a second that `threads` threads together reach in `kernels`'
/// matrix product with weights of `type` that stay in cache: what prefilling cannot exceed with
/// those kernels.
///
/// Errors: kUnsupported for kernels or a type that there are not.
Result<double> MeasureComputeRate(int threads, const std::string& kernels = "auto",
                                  const std::string& type = "f32");

struct DiskReport {
  std::string folder;
  int64_t free_bytes = 0;
  double read_bytes_per_s = 0;    ///< past the page cache where the file system allows
  double cached_bytes_per_s = 0;  ///< out of the page cache, by all threads, into new memory
  bool direct = false;            ///< whether it did (O_DIRECT)
  std::string method;             ///< "io_uring, O_DIRECT", or the next best and why
};

/// Writes a temporary file of `bytes` in `folder`, reads it back as weights are read, and removes
/// it.
///
/// Errors: kIo where the folder cannot be written or has no room.
Result<DiskReport> MeasureDisk(const std::string& folder, int64_t bytes = int64_t{256} << 20);

/// Bytes a second of new memory that `threads` threads together take from the system. Of memory
/// that was given back a moment before: a virtual machine's host may take much longer to give it
/// the first time.
Result<double> MeasureNewMemory(int threads, int64_t bytes = int64_t{256} << 20);

/// What a kernel set reaches with all threads, in multiplications and additions a second.
struct KernelSpeed {
  std::string name;
  double float_operations_per_s = 0;    ///< weights of float32
  double integer_operations_per_s = 0;  ///< weights of 8 bits (q8_0)
};

/// What this machine reaches, as measured once. Rates that could not be measured are 0.
struct MachineSpeeds {
  double memory_bytes_per_s_one_thread = 0;
  double memory_bytes_per_s = 0;      ///< all threads together
  double new_memory_bytes_per_s = 0;  ///< taken from the system, by all threads together
  std::vector<KernelSpeed> kernels;
  double disk_bytes_per_s = 0;
  double cached_bytes_per_s = 0;  ///< out of the page cache, into new memory
  bool disk_direct = false;       ///< past the page cache
  std::string disk_method;        ///< how files are read there, and why not better
};

/// Measures all of it, the disk in `folder`; some three seconds. Why something could not be
/// measured joins `missing`, a sentence each.
MachineSpeeds MeasureMachine(const MachineReport& machine, const std::string& folder,
                             std::vector<std::string>& missing);

}  // namespace moxie
