// Preloaded into a program (LD_PRELOAD), counts how often it maps a file's bytes.
//
//   MOXIE_COUNTED_FILE=FILE the file
//   MOXIE_COUNTED_LOG=FILE  grows by one byte each time
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

namespace {

bool IsCounted(int file) {
  const char* const path = std::getenv("MOXIE_COUNTED_FILE");
  struct stat wanted {
  }, mapped{};
  return file >= 0 && path != nullptr && stat(path, &wanted) == 0 && fstat(file, &mapped) == 0 &&
         wanted.st_dev == mapped.st_dev && wanted.st_ino == mapped.st_ino;
}

void Count() {
  const char* const log = std::getenv("MOXIE_COUNTED_LOG");
  const int file = open(log == nullptr ? "" : log, O_WRONLY | O_APPEND);
  if (write(file, "+", 1) != 1) std::abort();
  close(file);
}

}  // namespace

extern "C" void* mmap(void* address, size_t bytes, int protection, int flags, int file,
                      off_t offset) {
  static const auto next =
      reinterpret_cast<void* (*)(void*, size_t, int, int, int, off_t)>(dlsym(RTLD_NEXT, "mmap"));
  const int error = errno;
  if (IsCounted(file)) Count();
  errno = error;
  return next(address, bytes, protection, flags, file, offset);
}
