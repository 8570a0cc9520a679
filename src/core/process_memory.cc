#include "core/process_memory.h"

#include <link.h>
#include <malloc.h>

namespace moxie {

int64_t HeapBytes() {
#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 33)
  const struct mallinfo2 info = mallinfo2();
  return static_cast<int64_t>(info.uordblks + info.hblkhd);
#else
  return 0;
#endif
}

void ReleaseFreeHeap() {
#if defined(__GLIBC__)
  malloc_trim(0);
#endif
}

int64_t ProgramBytes() {
  int64_t sum = 0;
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* out) {
        for (int i = 0; i < info->dlpi_phnum; ++i) {
          if (info->dlpi_phdr[i].p_type == PT_LOAD)
            *static_cast<int64_t*>(out) += static_cast<int64_t>(info->dlpi_phdr[i].p_memsz);
        }
        return 0;
      },
      &sum);
  return sum;
}

}  // namespace moxie
