#include "core/atomic_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>
#include <iterator>
#include <string>

#include "support/temp_folder.h"

namespace moxie {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

std::string ReadAll(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

long FilesIn(const fs::path& folder) {
  return std::distance(fs::directory_iterator(folder), fs::directory_iterator());
}

TEST(AtomicFileTest, AppearsOnlyWhenCommitted) {
  testing::TempFolder folder;
  std::ofstream(folder / "a") << "old";
  {
    auto file = AtomicFile::Create(folder / "a");
    ASSERT_TRUE(file) << file.error().message;
    ASSERT_TRUE(file->Write("new "));
    ASSERT_TRUE(file->Write("text"));
    EXPECT_EQ(file->size(), 8u);
    EXPECT_EQ(ReadAll(folder / "a"), "old");
    ASSERT_TRUE(file->Commit());
    EXPECT_EQ(ReadAll(folder / "a"), "new text");
  }
  EXPECT_EQ(FilesIn(folder.path()), 1);
}

TEST(AtomicFileTest, LeavesNothingWithoutCommit) {
  testing::TempFolder folder;
  {
    auto file = AtomicFile::Create(folder / "a");
    ASSERT_TRUE(file);
    ASSERT_TRUE(file->Write("half"));
    AtomicFile moved = std::move(*file);
    EXPECT_EQ(FilesIn(folder.path()), 1);
  }
  EXPECT_EQ(FilesIn(folder.path()), 0);
}

TEST(AtomicFileTest, TwoWritersOfOneNameDoNotMix) {
  testing::TempFolder folder;
  auto first = AtomicFile::Create(folder / "a");
  auto second = AtomicFile::Create(folder / "a");
  ASSERT_TRUE(first && second);
  ASSERT_TRUE(first->Write("first"));
  ASSERT_TRUE(second->Write("second"));
  ASSERT_TRUE(first->Commit());
  ASSERT_TRUE(second->Commit());
  EXPECT_EQ(ReadAll(folder / "a"), "second");
}

TEST(AtomicFileTest, FollowsLinksAndLeavesDevicesAlone) {
  testing::TempFolder folder;
  std::ofstream(folder / "target") << "old";
  fs::create_symlink("target", folder / "link");
  auto file = AtomicFile::Create(folder / "link");
  ASSERT_TRUE(file);
  ASSERT_TRUE(file->Write("new"));
  ASSERT_TRUE(file->Commit());
  EXPECT_TRUE(fs::is_symlink(folder / "link"));
  EXPECT_EQ(ReadAll(folder / "target"), "new");

  auto null = AtomicFile::Create("/dev/null");
  ASSERT_TRUE(null) << null.error().message;
  ASSERT_TRUE(null->Write("nothing"));
  ASSERT_TRUE(null->Commit());
  EXPECT_TRUE(fs::is_character_file("/dev/null"));
}

TEST(AtomicFileTest, SaysWhyItCannotBeWritten) {
  testing::TempFolder folder;
  const auto absent = AtomicFile::Create(folder / "no/such/a");
  EXPECT_EQ(absent.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(absent.error().message, HasSubstr("no/such/a: cannot be written: No such file"));
  EXPECT_THAT(AtomicFile::Create(folder.path()).error().message, HasSubstr("Is a directory"));
  auto full = AtomicFile::Create("/dev/full");
  ASSERT_TRUE(full);
  EXPECT_THAT(full->Write("x").error().message,
              HasSubstr("/dev/full: cannot be written: No space"));
}

}  // namespace
}  // namespace moxie
