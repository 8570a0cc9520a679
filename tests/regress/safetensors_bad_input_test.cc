// Safetensors headers, indexes and JSON texts that lie: each is refused with a sentence that begins
// with the file's name.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "formats/json.h"
#include "formats/model_files.h"
#include "formats/safetensors.h"
#include "support/bytes.h"
#include "support/temp_folder.h"

namespace moxie {
namespace {

namespace fs = std::filesystem;
using testing::Bytes;
using ::testing::HasSubstr;
using testing::Safetensors;
using ::testing::StartsWith;

std::string Failure(const Bytes& file) {
  const auto header = ParseSafetensors(file.span(), "m.safetensors");
  return header ? "" : header.error().message;
}

/// A file of one tensor "w" of these fields, and so many bytes of data.
Bytes OneTensor(const std::string& fields, size_t data) {
  return Safetensors("{\"w\":{" + fields + "}}", std::string(data, 'x'));
}

TEST(SafetensorsBadInputTest, LengthsOfTheHeader) {
  const auto with_length = [](uint64_t length) {
    Bytes bytes;
    return bytes.Add(length).Raw("{}");
  };
  EXPECT_EQ(Failure(with_length(2)), "");
  EXPECT_THAT(Failure(Bytes()), HasSubstr("is 0 bytes long, but a safetensors file begins with 8"));
  EXPECT_THAT(Failure(Bytes().Raw("1234567")), HasSubstr("is 7 bytes long"));
  EXPECT_THAT(Failure(with_length(3)), HasSubstr("claims a header of 3 bytes, but at most 2"));
  EXPECT_THAT(Failure(with_length(~uint64_t{0})), HasSubstr("a header of 18446744073709551615"));
  EXPECT_THAT(Failure(with_length(1)), HasSubstr("the header: not valid JSON at line 1"));
  EXPECT_THAT(Failure(with_length(0)), HasSubstr("does not begin with \"{\""));
  EXPECT_THAT(Failure(Safetensors("[]", "")), HasSubstr("does not begin with \"{\""));
}

TEST(SafetensorsBadInputTest, FieldsOfATensor) {
  const struct {
    const char* fields;
    const char* message;
  } cases[] = {
      {R"("dtype":"F32","shape":[2],"data_offsets":[0,4])", "but its shape and dtype take 8"},
      {R"("dtype":"F32","shape":[2],"data_offsets":[0,16])", "but the file has 8 bytes"},
      {R"("dtype":"F32","shape":[2],"data_offsets":[8,0])", "has data_offsets [8, 0]"},
      {R"("dtype":"F32","shape":[2],"data_offsets":[-8,0])", "no data_offsets [begin, end]"},
      {R"("dtype":"F32","shape":[2],"data_offsets":[0,8.0])", "no data_offsets [begin, end]"},
      {R"("dtype":"F32","shape":[2],"data_offsets":[0])", "no data_offsets [begin, end]"},
      {R"("dtype":"F32","shape":[2],"data_offsets":[0,8,8])", "no data_offsets [begin, end]"},
      {R"("dtype":"F32","shape":[2],"data_offsets":[0,18446744073709551615])", "no data_offsets"},
      {R"("dtype":"F32","shape":[2])", "no data_offsets [begin, end]"},
      {R"("dtype":"F32","shape":2,"data_offsets":[0,8])", "no shape of at most 8 whole numbers"},
      {R"("dtype":"F32","shape":[-2],"data_offsets":[0,8])", "no shape of at most 8"},
      {R"("dtype":"F32","shape":[1,1,1,1,1,1,1,1,2],"data_offsets":[0,8])", "no shape of at most"},
      {R"("dtype":"F32","shape":["2"],"data_offsets":[0,8])", "no shape of at most 8"},
      {R"("dtype":"F32","data_offsets":[0,8])", "no shape of at most 8 whole numbers"},
      {R"("dtype":"F32","shape":[0],"data_offsets":[0,0])", "a dimension of 0"},
      {R"("dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0])", "product is not"},
      {R"("dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,0])", "bytes are not"},
      {R"("dtype":"F8_E4M3","shape":[8],"data_offsets":[0,8])", "has dtype F8_E4M3, but must be"},
      {R"("dtype":"Q4\n","shape":[8],"data_offsets":[0,8])", "has dtype Q4\\x0a, but must be"},
      {R"("dtype":7,"shape":[8],"data_offsets":[0,8])", "has no dtype"},
      {R"("shape":[8],"data_offsets":[0,8])", "has no dtype"},
      {R"("dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8])", "has \"dtype\" twice"},
  };
  EXPECT_EQ(Failure(OneTensor(R"("dtype":"F32","shape":[2],"data_offsets":[0,8])", 8)), "");
  for (const auto& each : cases) {
    const std::string message = Failure(OneTensor(each.fields, 8));
    EXPECT_THAT(message, StartsWith("m.safetensors: ")) << each.fields;
    EXPECT_THAT(message, HasSubstr(each.message)) << each.fields;
  }
  EXPECT_THAT(Failure(Safetensors(R"({"w":[]})", "")), HasSubstr("has no dtype"));
  EXPECT_THAT(Failure(Safetensors(R"({"__metadata__":[]})", "")), HasSubstr("is no object"));
  EXPECT_THAT(Failure(Safetensors(R"({"__metadata__":{"a":1}})", "")), HasSubstr("no string"));
}

TEST(SafetensorsBadInputTest, TensorsFillTheDataWithoutGapOrOverlap) {
  const auto two = [](const char* second, size_t data) {
    return Failure(
        Safetensors(std::string(R"({"a":{"dtype":"I8","shape":[4],"data_offsets":[0,4]},)") +
                        "\"b\":{\"dtype\":\"I8\",\"shape\":[4],\"data_offsets\":" + second + "}}",
                    std::string(data, 'x')));
  };
  EXPECT_EQ(two("[4,8]", 8), "");
  EXPECT_THAT(two("[2,6]", 8), HasSubstr("tensor b begins at 2 of the tensor data, but the tensor "
                                         "before it ends at 4"));
  EXPECT_THAT(two("[0,4]", 8), HasSubstr("but the tensor before it ends at 4"));
  EXPECT_THAT(two("[6,10]", 10), HasSubstr("tensor b begins at 6"));
  EXPECT_THAT(two("[4,8]", 9), HasSubstr("has 9 bytes of tensor data, but its tensors take 8"));
  EXPECT_THAT(Failure(Safetensors("{}", "x")), HasSubstr("its tensors take 0"));
}

TEST(SafetensorsBadInputTest, AFileCutAnywhereIsRefused) {
  const Bytes file = OneTensor(R"("dtype":"F32","shape":[2],"data_offsets":[0,8])", 8);
  for (size_t length = 0; length < file.size(); ++length) {
    const auto header = ParseSafetensors(file.span().first(length), "m.safetensors");
    ASSERT_FALSE(header.has_value()) << length;
    EXPECT_THAT(header.error().message, StartsWith("m.safetensors: ")) << length;
  }
}

class IndexBadInputTest : public ::testing::Test {
 protected:
  IndexBadInputTest() {
    fs::create_directory(folder_ / "model");
    testing::WriteFile(folder_ / "model/config.json", "{}");
    const Bytes shard = OneTensor(R"("dtype":"I8","shape":[1],"data_offsets":[0,1])", 1);
    testing::WriteFile(folder_ / "model/x.safetensors", shard.str());
    testing::WriteFile(folder_ / "outside.safetensors", shard.str());
  }

  std::string FailureOf(const std::string& index) {
    testing::WriteFile(folder_ / "model/model.safetensors.index.json", index);
    const auto files = OpenModelFiles(folder_ / "model");
    if (files) return "";
    EXPECT_EQ(files.error().message.find('\n'), std::string::npos);
    EXPECT_THAT(files.error().message, StartsWith((folder_ / "model/").string()));
    return files.error().message;
  }
  std::string FailureOfShard(const std::string& shard) {
    return FailureOf(R"({"weight_map":{"w":)" + nlohmann::json(shard).dump() + "}}");
  }

  testing::TempFolder folder_;
};

TEST_F(IndexBadInputTest, NothingOutsideOfTheFolderIsRead) {
  EXPECT_EQ(FailureOfShard("x.safetensors"), "");
  const std::string outside = (folder_ / "outside.safetensors").string();
  const std::string cut = std::string("x.safetensors\0.json", 19);
  for (const std::string& shard :
       {std::string("../outside.safetensors"), outside, cut, std::string("./x.safetensors"),
        std::string(".."), std::string("."), std::string(), std::string("a\\b")}) {
    EXPECT_THAT(FailureOfShard(shard), HasSubstr("but must name files in its own folder")) << shard;
  }
  // Links are the user's own doing: downloads are kept that way.
  fs::create_symlink(outside, folder_ / "model/link.safetensors");
  EXPECT_EQ(FailureOfShard("link.safetensors"), "");
}

TEST_F(IndexBadInputTest, IndexesThatLie) {
  EXPECT_THAT(FailureOf(""), HasSubstr("not valid JSON at line 1"));
  EXPECT_THAT(FailureOf("[]"), HasSubstr("has no object weight_map"));
  EXPECT_THAT(FailureOf("{}"), HasSubstr("has no object weight_map"));
  EXPECT_THAT(FailureOf(R"({"weight_map":["x.safetensors"]})"), HasSubstr("no object weight_map"));
  EXPECT_THAT(FailureOf(R"({"weight_map":{"w":1}})"), HasSubstr("gives no file name for w"));
  EXPECT_THAT(FailureOf(R"({"weight_map":{"w":"none.safetensors"}})"),
              HasSubstr("none.safetensors: cannot be opened: No such file"));
  EXPECT_THAT(FailureOf(R"({"weight_map":{"w":"x.safetensors","v":"x.safetensors"}})"),
              HasSubstr("weight_map says that v is in x.safetensors, but it is not there"));
  fs::create_directory(folder_ / "model/d.safetensors");
  EXPECT_THAT(FailureOfShard("d.safetensors"), HasSubstr("is not a regular file"));
  fs::copy_file(folder_ / "model/x.safetensors", folder_ / "model/y.safetensors");
  EXPECT_THAT(FailureOf(R"({"weight_map":{"w":"x.safetensors","v":"y.safetensors"}})"),
              HasSubstr("has a tensor w that"));
}

TEST(JsonBadInputTest, IsRefusedWithItsPlace) {
  const auto failure = [](std::string_view text) {
    const auto json = ParseJson(text, "config.json");
    const auto ordered = ParseOrderedJson(text, "config.json");
    EXPECT_EQ(json.has_value(), ordered.has_value());
    return json ? "" : json.error().message;
  };
  EXPECT_THAT(failure(""), StartsWith("config.json: not valid JSON at line 1, column 1: "));
  EXPECT_THAT(failure("{\n  \"a\": tru\n}"), HasSubstr("at line 2, column 11"));
  EXPECT_THAT(failure("{\"a\": 1, \"a\": 2}"), HasSubstr("has \"a\" twice in one object"));
  EXPECT_THAT(failure("[1e999]"), HasSubstr("number overflow"));
  EXPECT_THAT(failure("[\"\xff\"]"), HasSubstr("ill-formed UTF-8"));
  EXPECT_THAT(failure("{} {}"), HasSubstr("expected end of input"));
  EXPECT_THAT(failure(std::string("{\"a\":\"\0\"}", 9)), HasSubstr("not valid JSON"));
}

TEST(JsonBadInputTest, DepthAndSizeAreLimited) {
  std::string arrays(512, '[');
  arrays += std::string(512, ']');
  EXPECT_TRUE(ParseJson(arrays, "a"));
  std::string objects;
  for (int i = 0; i < 100'000; ++i) objects += "{\"a\":";
  const auto begin = std::chrono::steady_clock::now();
  for (const std::string& text :
       {"[" + arrays + "]", std::string(100'000, '['), std::string(50'000'000, '['), objects}) {
    EXPECT_THAT(ParseJson(text, "a").error().message, HasSubstr("more than 512 levels of nesting"));
    EXPECT_THAT(ParseOrderedJson(text, "a").error().message, HasSubstr("more than 512 levels"));
  }
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(5));
  EXPECT_THAT(ParseJson("[1,2,3]", "a", {.bytes = 6}).error().message,
              HasSubstr("7 bytes of JSON, but at most 6 are read"));
  EXPECT_THAT(ParseJson("[1,2,3]", "a", {.values = 3}).error().message,
              HasSubstr("more than 3 values"));
  EXPECT_THAT(ParseOrderedJson(R"({"a":1,"b":2})", "a", {.ordered_members = 1}).error().message,
              HasSubstr("an object with more than 1 members"));
}

TEST(JsonBadInputTest, OrderIsKeptWhereItIsAsked) {
  EXPECT_EQ(ParseJson(R"({"b":1,"a":[{"d":2,"c":3}]})", "a")->dump(),
            R"({"a":[{"c":3,"d":2}],"b":1})");
  EXPECT_EQ(ParseOrderedJson(R"({"b":1,"a":[{"d":2,"c":3}]})", "a")->dump(),
            R"({"b":1,"a":[{"d":2,"c":3}]})");
}

}  // namespace
}  // namespace moxie
