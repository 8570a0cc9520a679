#include "moxie/result.h"

#include <cstdio>
#include <cstdlib>

namespace moxie {

void CheckFailed(const char* condition, const char* file, int line) {
  std::fprintf(stderr, "moxie: internal error: %s is false at %s:%d\n", condition, file, line);
  std::abort();
}

}  // namespace moxie
