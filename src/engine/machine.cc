#include "moxie/machine.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <optional>
#include <sstream>

#include "core/cgroup.h"
#include "core/page_buffer.h"
#include "core/process_memory.h"
#include "core/thread_pool.h"
#include "forward/decoder.h"
#include "forward/pack_weights.h"
#include "memory/file_reader.h"
#include "memory/file_speed.h"

namespace moxie {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kPasses = 5;
constexpr int64_t kBlock = int64_t{1} << 20;

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// The value of `key` in lines of "key : value", or empty.
std::string FieldOf(const char* file, std::string_view key) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    if (!line.starts_with(key)) continue;
    const size_t separator = line.find_first_of(":=");
    if (separator == std::string::npos) continue;
    const size_t begin = line.find_first_not_of(" \t\"", separator + 1);
    const size_t end = line.find_last_not_of(" \t\"");
    if (begin != std::string::npos) return line.substr(begin, end - begin + 1);
  }
  return "";
}

int64_t MemInfoBytes(std::string_view key) {
  return std::strtoll(FieldOf("/proc/meminfo", key).c_str(), nullptr, 10) * 1024;
}

void FindMemoryLimit(MachineReport& report) {
  report.memory_limit_bytes = report.memory_bytes;
  report.memory_limit_by = "machine";
  const auto lower = [&](int64_t limit, const char* by) {
    if (limit >= report.memory_limit_bytes && report.memory_limit_bytes > 0) return;
    report.memory_limit_bytes = limit;
    report.memory_limit_by = by;
  };
  if (const std::optional<CgroupMemory> group = CgroupMemoryLeft()) {
    lower(group->limit_bytes, "cgroup");
    report.memory_available_bytes = std::min(report.memory_available_bytes, group->available_bytes);
  }
  rlimit limit{};
  if (getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
    lower(static_cast<int64_t>(limit.rlim_cur), "rlimit");
}

Error IoError(const std::string& what) {
  return {ErrorCode::kIo, what + ": " + std::strerror(errno)};
}

/// A file that is closed and removed when it goes out of scope.
class TemporaryFile {
 public:
  static Result<std::unique_ptr<TemporaryFile>> Create(const std::string& folder) {
    std::string path = folder + "/.moxie-disk-XXXXXX";
    const int fd = mkostemp(path.data(), O_CLOEXEC);
    if (fd < 0) return IoError(folder + ": cannot be written");
    return std::unique_ptr<TemporaryFile>(new TemporaryFile(std::move(path), fd));
  }
  ~TemporaryFile() {
    close(fd_);
    unlink(path_.c_str());
  }
  const std::string& path() const { return path_; }
  int fd() const { return fd_; }

 private:
  TemporaryFile(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}
  std::string path_;
  int fd_;
};

struct FreeDeleter {
  void operator()(void* pointer) const { std::free(pointer); }
};
using AlignedBlock = std::unique_ptr<std::byte, FreeDeleter>;

AlignedBlock AllocateAligned(int64_t bytes) {
  return AlignedBlock(static_cast<std::byte*>(
      std::aligned_alloc(4096, static_cast<size_t>((bytes + 4095) / 4096 * 4096))));
}

Result<void> FillFile(const TemporaryFile& file, std::byte* block, int64_t bytes) {
  for (int64_t i = 0; i < kBlock; ++i) block[i] = static_cast<std::byte>(i * 2654435761 >> 13);
  for (int64_t written = 0; written < bytes; written += kBlock) {
    if (write(file.fd(), block, static_cast<size_t>(kBlock)) != kBlock)
      return IoError(file.path() + ": cannot be written");
  }
  if (fdatasync(file.fd()) != 0) return IoError(file.path() + ": cannot be written");
  posix_fadvise(file.fd(), 0, 0, POSIX_FADV_DONTNEED);
  return {};
}

/// The sum of kBlock bytes' words. In vectors, so that memory binds and not the instructions: one
/// word at a time takes twice as long as memory does.
uint64_t SumOfBlock(const std::byte* data) {
  using Vector [[gnu::vector_size(16)]] = uint64_t;
  constexpr int64_t kVector = sizeof(Vector);
  Vector sums[4] = {};
  for (int64_t at = 0; at < kBlock; at += 4 * kVector) {
#pragma GCC unroll 4
    for (int64_t i = 0; i < 4; ++i) {
      Vector words;
      std::memcpy(&words, data + at + i * kVector, sizeof(words));
      sums[i] += words;
    }
  }
  const Vector sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  return sum[0] + sum[1];
}

}  // namespace

MachineReport InspectMachine() {
  MachineReport report;
  report.processor = FieldOf("/proc/cpuinfo", "model name");
  report.operating_system = FieldOf("/etc/os-release", "PRETTY_NAME");
  utsname system{};
  if (uname(&system) == 0) {
    report.operating_system += (report.operating_system.empty() ? "" : ", ") +
                               std::string(system.sysname) + " " + system.release;
    if (report.processor.empty()) report.processor = system.machine;
  }
  report.cpus = static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
  report.usable_cpus = UsableCpus();
  for (const KernelSet* set : AllKernelSets())
    report.kernel_sets.push_back({.name = std::string(set->name),
                                  .usable = set->usable(),
                                  .needs = std::string(set->needs),
                                  .best = set == &BestKernelSet()});
  report.memory_bytes = MemInfoBytes("MemTotal");
  report.memory_available_bytes = MemInfoBytes("MemAvailable");
  FindMemoryLimit(report);
  return report;
}

int64_t AutomaticMemoryBytes(const MachineReport& machine) {
  const int64_t most =
      std::min(machine.memory_available_bytes + ResidentBytes(), machine.memory_limit_bytes);
  return most - std::clamp(most / 16, int64_t{64} << 20, int64_t{1} << 30);
}

Result<double> MeasureMemoryBandwidth(int threads, int64_t bytes) {
  bytes = std::max(bytes, int64_t{64} << 20) / kBlock * kBlock;
  // Where weights lie: huge pages, where the system has them.
  const Result<PageBuffer> buffer = PageBuffer::Create(bytes, "measuring memory");
  if (!buffer) return buffer.error();
  ThreadPool pool(std::max(threads, 1));
  const int64_t blocks = bytes / kBlock;
  pool.ParallelFor(blocks, [&](int64_t block, int) {
    std::memset(buffer->data() + block * kBlock, static_cast<int>(block), kBlock);
  });
  std::vector<uint64_t> sums(static_cast<size_t>(blocks));
  double best = 0;
  for (int pass = 0; pass < kPasses; ++pass) {
    const auto start = Clock::now();
    pool.ParallelFor(blocks, [&](int64_t block, int) {
      sums[static_cast<size_t>(block)] = SumOfBlock(buffer->data() + block * kBlock);
    });
    best = std::max(best, static_cast<double>(bytes) / SecondsSince(start));
  }
  return best;
}

Result<double> MeasureNewMemory(int threads, int64_t bytes) {
  ThreadPool pool(std::max(threads, 1));
  const int64_t piece = 4 * kBlock;
  double seconds = 0;
  for (int time = 0; time < 2; ++time) {  // The first has the host give it.
    const Result<PageBuffer> buffer = PageBuffer::Create(bytes, "measuring memory");
    if (!buffer) return buffer.error();
    const auto start = Clock::now();
    pool.ParallelFor((bytes + piece - 1) / piece, [&](int64_t i, int) {
      std::byte* const at = buffer->data() + i * piece;
      buffer->Populate(i * piece, std::min(piece, bytes - i * piece));
      for (int64_t page = 0; page < std::min(piece, bytes - i * piece); page += kPageBytes)
        at[page] = std::byte{1};  // Where the system does not populate.
    });
    seconds = SecondsSince(start);
  }
  return static_cast<double>(bytes) / seconds;
}

Result<double> MeasureComputeRate(int threads, const std::string& kernels,
                                  const std::string& type_name) {
  const KernelSet* const set = kernels == "auto" ? &BestKernelSet() : FindKernelSet(kernels);
  if (set == nullptr)
    return Error{ErrorCode::kUnsupported, kernels + ": no such kernel set is usable here"};
  const std::optional<DType> type = DTypeFromName(type_name);
  if (!type) return Error{ErrorCode::kUnsupported, type_name + ": no such type of weights"};
  // 64 rows of 512 weights and 64 tokens: 256 KiB at most, which the second-level cache holds.
  // Bytes that are small normal numbers in every type: those of 0 are subnormal scales in some,
  // with which processors take longer.
  constexpr int64_t kRows = 64, kCols = 512, kTokens = 64;
  const int64_t stride = BytesOf(*type, kCols).value_or(0);
  const std::vector<std::byte> weights(static_cast<size_t>(kRows * stride), std::byte{0x22});
  const std::vector<float> input(kCols, 0.25F);
  WeightMatrix matrix{*type, kRows, kCols, stride, weights.data()};
  matrix.packed_rows = PackedRowsFor(*set, matrix);
  const ActivationFormat format = set->activation_format(*type, kCols, kTokens);
  std::vector<std::byte> activations(static_cast<size_t>(format.BytesOf(kTokens)));
  const std::vector<const float*> rows(static_cast<size_t>(format.panel), input.data());
  for (int64_t t = 0; t < kTokens; t += format.panel)
    set->convert_activations(format, kCols, rows.data(), format.panel,
                             activations.data() + format.BytesOf(t));
  ThreadPool pool(std::max(threads, 1));
  std::vector<std::vector<float>> out(static_cast<size_t>(pool.threads()),
                                      std::vector<float>(kRows * kTokens));
  double best = 0;
  int64_t tasks = pool.threads();
  for (double seconds = 0; seconds < 0.1; tasks *= 2) {
    const auto start = Clock::now();
    pool.ParallelFor(tasks, [&](int64_t, int worker) {
      set->matmul(format, matrix, 0, kRows, activations.data(), kTokens,
                  out[static_cast<size_t>(worker)].data(), kRows);
    });
    seconds = SecondsSince(start);
    best = std::max(best, static_cast<double>(2 * kRows * kCols * kTokens * tasks) / seconds);
  }
  return best;
}

Result<DiskReport> MeasureDisk(const std::string& folder, int64_t bytes) {
  bytes = std::max(bytes / kBlock, int64_t{1}) * kBlock;
  DiskReport report;
  report.folder = folder;
  struct statvfs system {};
  if (statvfs(folder.c_str(), &system) != 0) return IoError(folder);
  report.free_bytes = static_cast<int64_t>(system.f_bavail) * static_cast<int64_t>(system.f_frsize);
  if (report.free_bytes < 2 * bytes)
    return Error{ErrorCode::kIo, folder + ": has " + std::to_string(report.free_bytes) +
                                     " bytes free, but measuring needs " +
                                     std::to_string(2 * bytes)};
  MOXIE_TRY_ASSIGN(const std::unique_ptr<TemporaryFile> file, TemporaryFile::Create(folder));
  const AlignedBlock block = AllocateAligned(kBlock);
  MOXIE_CHECK(block != nullptr);
  MOXIE_TRY(FillFile(*file, block.get(), bytes));
  MOXIE_TRY_ASSIGN(const MappedFile mapped, MappedFile::Open(file->path()));
  MOXIE_TRY_ASSIGN(PageBuffer memory, PageBuffer::Create(bytes, "measuring the disk"));
  // The system gives pages when they are touched, a virtual machine's host slowly.
  std::memset(memory.data(), 0, static_cast<size_t>(memory.size()));
  MOXIE_TRY_ASSIGN(const auto direct, FileReader::Create({&mapped, 1}, FileReader::Options{}));
  report.method = direct->Method();
  report.direct = report.method.find("O_DIRECT") != std::string::npos;
  MOXIE_TRY_ASSIGN(report.read_bytes_per_s, ReadWhole(*direct, memory));
  for (int64_t at = 0; at < bytes; at += kBlock)
    MOXIE_TRY(mapped.Read(static_cast<uint64_t>(at), {block.get(), static_cast<size_t>(kBlock)}));
  // As loading does it, with memory that the host gave a moment before.
  memory = {};
  MOXIE_TRY_ASSIGN(memory, PageBuffer::Create(bytes, "measuring the page cache"));
  FileReader::Options options;
  options.direct = options.drop_behind = options.io_uring = false;
  options.threads = UsableCpus();
  MOXIE_TRY_ASSIGN(const auto cached, FileReader::Create({&mapped, 1}, options));
  MOXIE_TRY_ASSIGN(report.cached_bytes_per_s, ReadWhole(*cached, memory));
  return report;
}

MachineSpeeds MeasureMachine(const MachineReport& machine, const std::string& folder,
                             std::vector<std::string>& missing) {
  const auto take = [&](const Result<double>& result) {
    if (result) return *result;
    missing.push_back(result.error().message);
    return 0.0;
  };
  MachineSpeeds speeds;
  // A small limit must not be exceeded by looking at it.
  const int64_t bytes =
      std::clamp<int64_t>(machine.memory_limit_bytes / 16, int64_t{64} << 20, int64_t{256} << 20);
  speeds.memory_bytes_per_s_one_thread = take(MeasureMemoryBandwidth(1, bytes));
  speeds.memory_bytes_per_s = take(MeasureMemoryBandwidth(machine.usable_cpus, bytes));
  speeds.new_memory_bytes_per_s = take(MeasureNewMemory(machine.usable_cpus, bytes));
  for (const KernelSetReport& set : machine.kernel_sets) {
    if (!set.usable) continue;
    speeds.kernels.push_back({set.name,
                              take(MeasureComputeRate(machine.usable_cpus, set.name, "f32")),
                              take(MeasureComputeRate(machine.usable_cpus, set.name, "q8_0"))});
  }
  const Result<DiskReport> disk = MeasureDisk(folder, bytes);
  if (!disk) missing.push_back(disk.error().message);
  if (disk) speeds.disk_bytes_per_s = disk->read_bytes_per_s;
  if (disk) speeds.cached_bytes_per_s = disk->cached_bytes_per_s;
  if (disk) speeds.disk_direct = disk->direct;
  if (disk) speeds.disk_method = disk->method;
  return speeds;
}

}  // namespace moxie
