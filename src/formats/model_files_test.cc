#include "formats/model_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "support/bytes.h"
#include "support/shared.h"
#include "support/temp_folder.h"

namespace moxie {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class ModelFilesTest : public ::testing::Test {
 protected:
  void Write(const std::string& name, std::string_view content) {
    testing::WriteFile(folder_ / name, content);
  }
  void WriteTensor(const std::string& name, const std::string& tensor, char value) {
    Write(name, testing::Safetensors(
                    "{\"" + tensor + R"(":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
                    std::string(1, value))
                    .str());
  }
  std::string Failure() const {
    const auto files = OpenModelFiles(folder_.path());
    return files ? "" : files.error().message;
  }
  std::string ValueOf(const ModelFiles& files, std::string_view tensor) const {
    const TensorInfo* info = files.tensors.Find(tensor);
    if (info == nullptr) return "absent";
    const auto bytes = files.tensors.Bytes(*info);
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }

  testing::TempFolder folder_;
};

TEST_F(ModelFilesTest, OpensSingleAndShardedHuggingFaceFolders) {
  Write("config.json", "{}");
  WriteTensor("model.safetensors", "a", 'A');
  auto files = OpenModelFiles(folder_.path());
  ASSERT_TRUE(files) << files.error().message;
  EXPECT_EQ(files->layout, FileLayout::kHuggingFace);
  EXPECT_EQ(ValueOf(*files, "a"), "A");

  WriteTensor("x.safetensors", "b", 'B');
  WriteTensor("y.safetensors", "c", 'C');
  Write("model.safetensors.index.json",
        R"({"metadata":{},"weight_map":{"c":"y.safetensors","b":"x.safetensors"}})");
  files = OpenModelFiles(folder_.path());
  ASSERT_TRUE(files) << files.error().message;
  EXPECT_EQ(ValueOf(*files, "a"), "absent");
  EXPECT_EQ(ValueOf(*files, "b"), "B");
  EXPECT_EQ(ValueOf(*files, "c"), "C");
}

TEST_F(ModelFilesTest, OpensConsolidatedFolders) {
  Write("params.json", "{}");
  WriteTensor("consolidated.00.safetensors", "a", 'A');
  WriteTensor("consolidated.01.safetensors", "b", 'B');
  const auto files = OpenModelFiles(folder_.path());
  ASSERT_TRUE(files) << files.error().message;
  EXPECT_EQ(files->layout, FileLayout::kConsolidated);
  EXPECT_EQ(ValueOf(*files, "a") + ValueOf(*files, "b"), "AB");
}

TEST_F(ModelFilesTest, AFolderOfBothLayoutsIsOpenedByTheWeightsItHolds) {
  Write("config.json", "{}");
  Write("params.json", "{}");
  WriteTensor("consolidated.safetensors", "a", 'A');
  EXPECT_EQ(OpenModelFiles(folder_.path())->layout, FileLayout::kConsolidated);
  WriteTensor("model.safetensors", "a", 'A');
  EXPECT_EQ(OpenModelFiles(folder_.path())->layout, FileLayout::kHuggingFace);
}

TEST_F(ModelFilesTest, SaysWhatAFolderLacks) {
  EXPECT_THAT(Failure(), HasSubstr("has neither config.json nor params.json"));
  Write("params.json", "{}");
  EXPECT_THAT(Failure(), HasSubstr("beside params.json"));
  Write("config.json", "{}");
  EXPECT_THAT(Failure(), HasSubstr("beside config.json"));
  EXPECT_EQ(OpenModelFiles(folder_ / "none").error().code, ErrorCode::kNotFound);
}

TEST_F(ModelFilesTest, ReadsCompanions) {
  Write("config.json", "{\"x\": 1}");
  WriteTensor("model.safetensors", "a", 'A');
  fs::create_directory(folder_ / "tokenizer.json");
  const auto files = OpenModelFiles(folder_.path());
  ASSERT_TRUE(files);
  EXPECT_EQ(**files->ReadCompanion("config.json"), "{\"x\": 1}");
  EXPECT_FALSE(*files->ReadCompanion("absent.json"));
  EXPECT_THAT(files->ReadCompanion("tokenizer.json").error().message,
              HasSubstr("is not a regular file"));
}

TEST(GoldenFoldersTest, AllOpen) {
  const auto shared = testing::SharedDir();
  if (!shared) GTEST_SKIP() << "no folder of reference data (MOXIE_SHARED)";
  int opened = 0;
  for (const auto& entry : fs::directory_iterator(*shared / "golden")) {
    if (!fs::exists(entry.path() / "config.json") && !fs::exists(entry.path() / "params.json")) {
      continue;
    }
    const auto files = OpenModelFiles(entry.path());
    ASSERT_TRUE(files) << files.error().message;
    EXPECT_FALSE(files->tensors.tensors().empty());
    ++opened;
  }
  EXPECT_GE(opened, 16);
}

}  // namespace
}  // namespace moxie
