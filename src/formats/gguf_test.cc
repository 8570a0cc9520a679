#include "formats/gguf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "support/bytes.h"
#include "support/temp_folder.h"

namespace moxie {
namespace {

using testing::Bytes;
using ::testing::ElementsAre;
using testing::GgufStart;
using ::testing::HasSubstr;

TEST(GgufTest, ReadsEveryValueTypeAsTheSpecificationNumbersThem) {
  Bytes file = GgufStart(0, 15);
  file.Text("u8").Add<uint32_t>(0).Add<uint8_t>(200);
  file.Text("i8").Add<uint32_t>(1).Add<int8_t>(-100);
  file.Text("u16").Add<uint32_t>(2).Add<uint16_t>(60000);
  file.Text("i16").Add<uint32_t>(3).Add<int16_t>(-30000);
  file.Text("u32").Add<uint32_t>(4).Add<uint32_t>(4000000000u);
  file.Text("i32").Add<uint32_t>(5).Add<int32_t>(-2000000000);
  file.Text("f32").Add<uint32_t>(6).Add<float>(1.5f);
  file.Text("bool").Add<uint32_t>(7).Add<uint8_t>(1);
  file.Text("text").Add<uint32_t>(8).Text("grüezi");
  file.Text("u64").Add<uint32_t>(10).Add<uint64_t>(uint64_t{1} << 63);
  file.Text("i64").Add<uint32_t>(11).Add<int64_t>(-5);
  file.Text("f64").Add<uint32_t>(12).Add<double>(-0.1);
  file.Text("texts").Add<uint32_t>(9).Add<uint32_t>(8).Add<uint64_t>(2).Text("a").Text("");
  file.Text("i32s").Add<uint32_t>(9).Add<uint32_t>(5).Add<uint64_t>(3);
  file.Add<int32_t>(1).Add<int32_t>(-2).Add<int32_t>(3);
  file.Text("bools").Add<uint32_t>(9).Add<uint32_t>(7).Add<uint64_t>(2).Raw({"\1\0", 2});

  const auto header = ParseGguf(file.span(), "m.gguf");
  ASSERT_TRUE(header) << header.error().message;
  const GgufMetadata& metadata = header->metadata;
  EXPECT_EQ(*metadata.Find("u8"), GgufValue(uint8_t{200}));
  EXPECT_EQ(*metadata.Find("u32"), GgufValue(uint32_t{4000000000u}));
  EXPECT_EQ(**metadata.Integer("u8"), 200);
  EXPECT_EQ(**metadata.Integer("i8"), -100);
  EXPECT_EQ(**metadata.Integer("u16"), 60000);
  EXPECT_EQ(**metadata.Integer("i16"), -30000);
  EXPECT_EQ(**metadata.Integer("u32"), 4000000000);
  EXPECT_EQ(**metadata.Integer("i32"), -2000000000);
  EXPECT_EQ(**metadata.Integer("i64"), -5);
  EXPECT_EQ(**metadata.Number("f32"), 1.5);
  EXPECT_EQ(**metadata.Number("f64"), -0.1);
  EXPECT_EQ(**metadata.Number("u8"), 200);
  EXPECT_TRUE(**metadata.Boolean("bool"));
  EXPECT_EQ(**metadata.Text("text"), "grüezi");
  EXPECT_THAT(**metadata.Texts("texts"), ElementsAre("a", ""));
  EXPECT_THAT(**metadata.Integers("i32s"), ElementsAre(1, -2, 3));
  EXPECT_THAT(**metadata.Numbers("i32s"), ElementsAre(1, -2, 3));
  EXPECT_EQ(*metadata.Find("bools"), GgufValue(GgufArray(std::vector<bool>{true, false})));
  EXPECT_FALSE(*metadata.Integer("absent"));
  EXPECT_EQ(metadata.Integer("u64").error().message,
            "m.gguf: u64 is 9223372036854775808, but must be below 2^63");
  EXPECT_EQ(metadata.Integer("f32").error().message,
            "m.gguf: f32 is an f32, but must be an integer");
  EXPECT_EQ(metadata.Texts("i32s").error().message,
            "m.gguf: i32s is an array of i32, but must be an array of strings");
  EXPECT_EQ(metadata.Integers("texts").error().message,
            "m.gguf: texts is an array of string, but must be an array of integers");
}

TEST(GgufTest, TensorsAreOutermostFirstAndPlacedAfterThePadding) {
  for (const uint32_t version : {2u, 3u}) {
    Bytes file = GgufStart(2, 1, version);
    file.Text("general.alignment").Add<uint32_t>(4).Add<uint32_t>(64);
    file.Text("q").Add<uint32_t>(3).Add<uint64_t>(32).Add<uint64_t>(2).Add<uint64_t>(1);
    file.Add<uint32_t>(8).Add<uint64_t>(0);
    file.Text("scalar").Add<uint32_t>(0).Add<uint32_t>(0).Add<uint64_t>(128);
    const size_t data = file.Pad(64).size();
    file.Raw(std::string(68, 'q')).Pad(64).Raw("abcd");

    const auto header = ParseGguf(file.span(), "m.gguf");
    ASSERT_TRUE(header) << header.error().message;
    ASSERT_EQ(header->tensors.size(), 2u);
    const TensorInfo& q = header->tensors[0];
    EXPECT_EQ(q.name, "q");
    EXPECT_EQ(q.type, DType::kQ8_0);
    EXPECT_THAT(q.shape, ElementsAre(1, 2, 32));
    EXPECT_EQ(q.offset, data);
    EXPECT_EQ(q.bytes, 68u);  // Two blocks of 34 bytes.
    EXPECT_TRUE(header->tensors[1].shape.empty());
    EXPECT_EQ(header->tensors[1].offset, data + 128);
    EXPECT_EQ(header->tensors[1].bytes, 4u);
  }
}

class GgufSplitTest : public ::testing::Test {
 protected:
  std::filesystem::path Path(int number) const {
    return folder_ / ("m-0000" + std::to_string(number) + "-of-00002.gguf");
  }

  /// One file of a set of two, with one f32 tensor of one element.
  void Write(int number, const std::string& tensor, float value, int claimed_tensors = 2) {
    Bytes file = GgufStart(1, 3);
    file.Text("split.no").Add<uint32_t>(2).Add<uint16_t>(static_cast<uint16_t>(number - 1));
    file.Text("split.count").Add<uint32_t>(2).Add<uint16_t>(2);
    file.Text("split.tensors.count").Add<uint32_t>(5).Add<int32_t>(claimed_tensors);
    file.Text(tensor).Add<uint32_t>(1).Add<uint64_t>(1).Add<uint32_t>(0).Add<uint64_t>(0);
    testing::WriteFile(Path(number), file.Pad(32).Add(value).str());
  }

  std::string Failure(int number = 1) const {
    GgufMetadata metadata;
    const auto files = OpenGguf(Path(number), &metadata);
    return files ? "" : files.error().message;
  }

  testing::TempFolder folder_;
};

TEST_F(GgufSplitTest, OpensTheWholeSetFromAnyOfItsFiles) {
  Write(1, "a", 1.0f);
  Write(2, "b", 2.0f);
  for (const int given : {1, 2}) {
    GgufMetadata metadata;
    const auto files = OpenGguf(Path(given), &metadata);
    ASSERT_TRUE(files) << files.error().message;
    EXPECT_EQ(files->files().size(), 2u);
    EXPECT_EQ(**metadata.Integer("split.no"), 0);
    const TensorInfo* b = files->Find("b");
    ASSERT_NE(b, nullptr);
    EXPECT_EQ(b->file, 1);
    float value = 0;
    std::memcpy(&value, files->Bytes(*b).data(), sizeof value);
    EXPECT_EQ(value, 2.0f);
    EXPECT_EQ(files->Find("c"), nullptr);
  }
}

TEST_F(GgufSplitTest, NamesWhatIsWrongWithASet) {
  Write(1, "a", 1.0f);
  EXPECT_THAT(Failure(), HasSubstr("m-00002-of-00002.gguf: cannot be opened"));
  Write(2, "a", 1.0f);
  EXPECT_THAT(Failure(), HasSubstr("has a tensor a that"));
  Write(2, "b", 1.0f);
  Write(1, "a", 1.0f, 3);
  EXPECT_THAT(Failure(), HasSubstr("split.tensors.count is 3, but must be 2"));
  Write(1, "a", 1.0f);
  std::filesystem::copy_file(Path(1), Path(2), std::filesystem::copy_options::overwrite_existing);
  EXPECT_THAT(Failure(), HasSubstr("split.no is 0, but must be 1"));
  std::filesystem::rename(Path(1), folder_ / "m.gguf");
  GgufMetadata metadata;
  EXPECT_THAT(OpenGguf(folder_ / "m.gguf", &metadata).error().message,
              HasSubstr("is one of 2 files (split.count), but its name does not end in "
                        "-00001-of-00002.gguf"));
}

}  // namespace
}  // namespace moxie
