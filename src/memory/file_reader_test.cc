#include "memory/file_reader.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <random>
#include <set>

#include "support/faulty_backend.h"
#include "support/temp_folder.h"

namespace moxie {
namespace {

using testing::Faults;
using testing::FaultyBackend;

constexpr int64_t kFileBytes = 300 * 1000 + 17;  // Neither pages nor blocks.

class FileReaderTest : public ::testing::TestWithParam<std::pair<bool, bool>> {
 protected:
  void SetUp() override {
    std::mt19937 random(1);
    content_.resize(kFileBytes);
    for (char& c : content_) c = static_cast<char>(random());
    std::ofstream(path_, std::ios::binary) << content_;
    // The mapping's identity must not change while the kernel still notes the time of writing.
    auto mapped = MappedFile::Open(path_);
    ASSERT_TRUE(mapped) << mapped.error().message;
    files_.push_back(std::move(*mapped));
  }

  /// Blocks of two pages, so that the file has many.
  FileReader::Options Options(Faults* faults = nullptr) const {
    FileReader::Options options;
    options.io_uring = GetParam().first;
    options.direct = GetParam().second;
    options.depth = 5;
    options.block_bytes = 2 * kPageBytes;
    options.max_reads = 8;
    options.threads = 3;
    if (faults != nullptr) {
      options.wrap = [faults](std::unique_ptr<ReadBackend> backend) {
        return std::make_unique<FaultyBackend>(std::move(backend), *faults);
      };
    }
    return options;
  }

  std::unique_ptr<FileReader> MakeReader(Faults* faults = nullptr) {
    auto reader = FileReader::Create(files_, Options(faults));
    if (!reader) {
      ADD_FAILURE() << reader.error().message;
      return nullptr;
    }
    return std::move(*reader);
  }

  /// Reads the whole file in four reads at once; the first error, if any.
  std::optional<Error> ReadAll(FileReader& reader, PageBuffer& memory) {
    const int64_t whole = RoundUpToPage(kFileBytes);
    memory = *PageBuffer::Create(whole, "test");
    const int64_t part = RoundUpToPage(whole / 4);
    std::set<int32_t> tags;
    for (int64_t at = 0; at < whole; at += part) {
      tags.insert(static_cast<int32_t>(at / part));
      reader.Queue({.file = 0,
                    .offset = static_cast<uint64_t>(at),
                    .bytes = std::min(part, whole - at),
                    .to = memory.data() + at,
                    .tag = static_cast<int32_t>(at / part)});
    }
    std::optional<Error> error;
    while (reader.pending() > 0) {
      auto done = reader.Take(true);
      EXPECT_EQ(tags.erase(done->tag), 1u);
      if (done->error && !error) error = done->error;
    }
    EXPECT_TRUE(tags.empty());
    EXPECT_FALSE(reader.Take(true));
    return error;
  }

  void ExpectWhole(FileReader& reader) {
    PageBuffer memory;
    const auto error = ReadAll(reader, memory);
    ASSERT_FALSE(error) << error->message;
    EXPECT_EQ(std::memcmp(memory.data(), content_.data(), kFileBytes), 0);
  }

  std::string ErrorOf(FileReader& reader) {
    PageBuffer memory;
    const auto error = ReadAll(reader, memory);
    if (!error) return "none";
    EXPECT_EQ(error->code, ErrorCode::kIo);
    EXPECT_NE(error->message.find("weights.bin"), std::string::npos) << error->message;
    return error->message;
  }

  testing::TempFolder folder_;
  const std::filesystem::path path_ = folder_ / "weights.bin";
  std::string content_;
  std::vector<MappedFile> files_;
};

TEST_P(FileReaderTest, ReadsEveryByte) {
  auto reader = MakeReader();
  ExpectWhole(*reader);
  ExpectWhole(*reader);
  EXPECT_EQ(reader->bytes_read(), 2 * kFileBytes);
}

TEST_P(FileReaderTest, GoesOnAfterShortAndInterruptedReads) {
  for (const int result : {-EINTR, -EAGAIN, -ECANCELED}) {
    Faults faults{.every = 3, .result = result};
    ExpectWhole(*MakeReader(&faults));
    EXPECT_GT(faults.injected, 10);
  }
  for (const int64_t bytes : {1L, 511L, 4096L, 4097L, 8191L}) {
    Faults faults{.every = 2, .shorten_to = bytes};
    ExpectWhole(*MakeReader(&faults));
    EXPECT_GT(faults.injected, 10);
  }
}

TEST_P(FileReaderTest, ReportsAnErrorOfTheDisk) {
  for (const int nth : {0, 7, 36}) {
    Faults faults{.first = nth, .count = 1, .result = -EIO};
    auto reader = MakeReader(&faults);
    EXPECT_NE(ErrorOf(*reader).find("cannot be read: Input/output error (at byte "),
              std::string::npos);
    ExpectWhole(*reader);  // The disk has recovered, and so has the reader.
  }
}

TEST_P(FileReaderTest, GoesOnWithThreadsWhereUringIsRefused) {
  if (!GetParam().first) return;
  for (const int nth : {0, 1, 11}) {
    Faults at_start{.first = nth, .count = 1, .refusal = -EPERM};
    auto reader = MakeReader(&at_start);
    ExpectWhole(*reader);
    EXPECT_EQ(reader->Method().substr(0, 41), "pread (io_uring: Operation not permitted)");
    Faults at_end{.first = nth, .result = -EPERM, .only = "io_uring"};
    reader = MakeReader(&at_end);
    ExpectWhole(*reader);
    EXPECT_EQ(reader->Method().substr(0, 5), "pread");
  }
}

TEST_P(FileReaderTest, ReadsThroughTheCacheWhereDirectReadsAreRefused) {
  if (!GetParam().second) return;
  Faults faults{.first = 4, .count = 3, .result = -EINVAL};
  auto reader = MakeReader(&faults);
  if (reader->Method().find("O_DIRECT") == std::string::npos) return;
  ExpectWhole(*reader);
  EXPECT_NE(reader->Method().find("page cache"), std::string::npos);
}

TEST_P(FileReaderTest, NoticesATruncatedFile) {
  auto reader = MakeReader();
  ExpectWhole(*reader);
  for (const int64_t size : {kFileBytes - 1, int64_t{8192}, int64_t{0}}) {
    ASSERT_EQ(truncate(path_.c_str(), size), 0);
    const std::string message = ErrorOf(*reader);
    EXPECT_TRUE(message.find("ends, but was longer") != std::string::npos ||
                message.find("has changed") != std::string::npos)
        << message;
  }
}

TEST_P(FileReaderTest, NoticesAFileThatIsWrittenTo) {
  auto reader = MakeReader();
  usleep(20'000);  // The kernel's clock for such times ticks every few milliseconds.
  std::fstream(path_, std::ios::in | std::ios::out | std::ios::binary) << "x";
  EXPECT_NE(ErrorOf(*reader).find("has changed since it was opened"), std::string::npos);
}

TEST_P(FileReaderTest, NoticesAFileThatIsReplacedBeforeItIsOpenedAgain) {
  std::ofstream(folder_ / "other", std::ios::binary) << content_;
  std::filesystem::rename(folder_ / "other", path_);
  const auto reader = FileReader::Create(files_, Options());
  ASSERT_FALSE(reader);
  EXPECT_NE(reader.error().message.find("has changed since it was opened"), std::string::npos);
  std::filesystem::remove(path_);
  const auto gone = FileReader::Create(files_, Options());
  ASSERT_FALSE(gone);
  EXPECT_EQ(gone.error().code, ErrorCode::kNotFound);
}

TEST_P(FileReaderTest, KeepsReadingAFileThatIsReplacedLater) {
  auto reader = MakeReader();
  std::ofstream(folder_ / "other", std::ios::binary) << std::string(kFileBytes, 'x');
  std::filesystem::rename(folder_ / "other", path_);
  ExpectWhole(*reader);
}

std::string NameOfWay(const ::testing::TestParamInfo<std::pair<bool, bool>>& way) {
  return std::string(way.param.first ? "Uring" : "Threads") +
         (way.param.second ? "Direct" : "Cached");
}

INSTANTIATE_TEST_SUITE_P(Ways, FileReaderTest,
                         ::testing::Values(std::pair(true, true), std::pair(true, false),
                                           std::pair(false, true), std::pair(false, false)),
                         NameOfWay);

}  // namespace
}  // namespace moxie
