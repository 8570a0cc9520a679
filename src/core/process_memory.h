#pragma once

#include <cstdint>

namespace moxie {

/// Bytes of the heap that are in use now, in all threads, as the allocator counts them; 0 where it
/// does not say (other C libraries than glibc).
int64_t HeapBytes();

/// Returns the heap's free pages to the system, so that what is freed no longer counts as ours.
void ReleaseFreeHeap();

/// Bytes of the program's code, constants and libraries as they are loaded into this process.
int64_t ProgramBytes();

}  // namespace moxie
