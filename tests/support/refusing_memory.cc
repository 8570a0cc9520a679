// Preloaded into a program (LD_PRELOAD), lets allocations fail: of the heap, of pages, of threads
// and of io_uring. Counts them from the beginning of main() on, in all threads.
//
//   MOXIE_REFUSE_FROM=N   the N-th allocation fails, counted from 1
//   MOXIE_REFUSE_COUNT=M  and so do the M - 1 after it; without it all after it do
//   MOXIE_REFUSE_LOG=FILE how many there were, written at the end
//   MOXIE_REFUSE_SHARED=FILE of four 64-bit integers that are shared with whoever maps it, too: how
//                         many there were, and the first and last that fail if they are of so many
//                         bytes, which may be changed
//   MOXIE_REFUSE_THREAD=N threads from the N-th on cannot be started
//   MOXIE_REFUSE_URING=N  submissions to io_uring from the N-th on are forbidden; 0: rings are
#include <dlfcn.h>
#include <fcntl.h>
#include <liburing.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>

extern "C" {

void* __libc_malloc(size_t bytes);
void* __libc_calloc(size_t count, size_t bytes);
void* __libc_realloc(void* memory, size_t bytes);
void* __libc_memalign(size_t alignment, size_t bytes);
}

namespace {

/// Of the heap and of pages.
struct Allocations {
  std::atomic<long> count, first, last, least_bytes;
};
Allocations own{0, -1, -1, 0};
Allocations* allocations = &own;
std::atomic<bool> counting{false};
std::atomic<long> threads{0}, submissions{0};
long thread_limit = -1, uring = -1;

long Setting(const char* name, long otherwise) {
  const char* const text = std::getenv(name);
  return text == nullptr ? otherwise : std::atol(text);
}

bool Refuses(size_t bytes) {
  if (!counting.load(std::memory_order_relaxed)) return false;
  const long number = allocations->count.fetch_add(1) + 1;
  const long first = allocations->first;
  if (first < 0 || number < first || number > allocations->last) return false;
  if (bytes < static_cast<size_t>(allocations->least_bytes)) return false;
  errno = ENOMEM;
  return true;
}

template <class Function>
Function Next(const char* name) {
  return reinterpret_cast<Function>(dlsym(RTLD_NEXT, name));
}

int (*program)(int, char**, char**) = nullptr;

void Share(const char* path) {
  const int file = open(path, O_RDWR);
  void* const shared =
      mmap(nullptr, sizeof(Allocations), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  if (shared != MAP_FAILED) allocations = static_cast<Allocations*>(shared);
}

int CountedMain(int argc, char** argv, char** environment) {
  if (const char* const path = std::getenv("MOXIE_REFUSE_SHARED")) {
    Share(path);
  } else if (const long first = Setting("MOXIE_REFUSE_FROM", -1); first >= 0) {
    own.first = first;
    own.last = Setting("MOXIE_REFUSE_COUNT", 1L << 40) + first - 1;
  }
  thread_limit = Setting("MOXIE_REFUSE_THREAD", -1);
  uring = Setting("MOXIE_REFUSE_URING", -1);
  counting = true;
  const int status = program(argc, argv, environment);
  counting = false;
  if (const char* const log = std::getenv("MOXIE_REFUSE_LOG")) {
    char text[32];
    const int length = std::snprintf(text, sizeof(text), "%ld\n", allocations->count.load());
    const int file = open(log, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    static_cast<void>(!write(file, text, static_cast<size_t>(length)));
    close(file);
  }
  return status;
}

}  // namespace

extern "C" {

int __libc_start_main(int (*main)(int, char**, char**), int argc, char** argv, void (*init)(),
                      void (*fini)(), void (*rtld_fini)(), void* stack_end) {
  program = main;
  return Next<decltype(&__libc_start_main)>("__libc_start_main")(CountedMain, argc, argv, init,
                                                                 fini, rtld_fini, stack_end);
}

void* malloc(size_t bytes) { return Refuses(bytes) ? nullptr : __libc_malloc(bytes); }

void* calloc(size_t count, size_t bytes) {
  return Refuses(count * bytes) ? nullptr : __libc_calloc(count, bytes);
}

void* realloc(void* memory, size_t bytes) {
  return Refuses(bytes) ? nullptr : __libc_realloc(memory, bytes);
}

void* memalign(size_t alignment, size_t bytes) {
  return Refuses(bytes) ? nullptr : __libc_memalign(alignment, bytes);
}

void* aligned_alloc(size_t alignment, size_t bytes) { return memalign(alignment, bytes); }

int posix_memalign(void** memory, size_t alignment, size_t bytes) {
  void* const got = memalign(alignment, bytes);
  if (got == nullptr) return ENOMEM;
  *memory = got;
  return 0;
}

void* mmap(void* address, size_t bytes, int protection, int flags, int file, off_t offset) {
  static const auto next = Next<decltype(&mmap)>("mmap");
  return Refuses(bytes) ? MAP_FAILED : next(address, bytes, protection, flags, file, offset);
}

int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*work)(void*),
                   void* argument) {
  static const auto next = Next<decltype(&pthread_create)>("pthread_create");
  if (thread_limit > 0 && threads.fetch_add(1) + 1 >= thread_limit) return EAGAIN;
  return Refuses(0) ? EAGAIN : next(thread, attributes, work, argument);
}

int io_uring_queue_init(unsigned entries, io_uring* ring, unsigned flags) {
  static const auto next = Next<decltype(&io_uring_queue_init)>("io_uring_queue_init");
  if (uring == 0) return -EPERM;
  return Refuses(0) ? -ENOMEM : next(entries, ring, flags);
}

int io_uring_submit(io_uring* ring) {
  static const auto next = Next<decltype(&io_uring_submit)>("io_uring_submit");
  if (uring > 0 && submissions.fetch_add(1) + 1 >= uring) return -EPERM;
  return next(ring);
}
}
