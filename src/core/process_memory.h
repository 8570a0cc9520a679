#pragma once

#include <cstdint>

namespace moxie {

/// Bytes of the heap that are in use now, in all threads, as the allocator counts them; 0 where it
/// does not say (other C libraries than glibc).
int64_t HeapBytes();

/// Returns the heap's free pages to the system, so that what is freed no longer counts as ours.
void ReleaseFreeHeap();

/// Makes the code and constants of the program and its libraries resident. How many of their pages
/// come along when one is touched depends on what the system happens to have cached; afterwards
/// two processes that do the same occupy the same. Does nothing where the system cannot (Linux
/// before 5.14).
void PopulateProgram();

/// Bytes of this process that are in memory now: what it touched of its code, libraries, heap and
/// stacks, mapped files included. 0 where the system does not say.
int64_t ResidentBytes();

/// The most memory that this program has had resident at once, in bytes (VmHWM). Not getrusage's
/// ru_maxrss, which counts what the process was before it became this program: what the shell or
/// script that started it had resident. 0 where the system does not say.
int64_t PeakResidentBytes();

}  // namespace moxie
