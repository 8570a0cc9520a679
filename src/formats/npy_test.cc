#include "formats/npy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <sstream>
#include <string>

#include "support/bytes.h"
#include "support/shared.h"
#include "support/temp_folder.h"

namespace moxie {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string ReadAll(const std::filesystem::path& path) {
  std::ostringstream out;
  out << std::ifstream(path, std::ios::binary).rdbuf();
  return out.str();
}

std::span<const std::byte> BytesOf(const std::string& text) {
  return std::as_bytes(std::span(text));
}

// numpy.save of np.arange(6, dtype='<f4').reshape(2, 3).
std::string NumpyFile() {
  std::string file("\x93NUMPY\x01\x00\x76\x00", 10);
  file += "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }";
  file.resize(127, ' ');
  file += '\n';
  for (int i = 0; i < 6; ++i) {
    const float value = static_cast<float>(i);
    file.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  return file;
}

TEST(NpyTest, WritesTheBytesThatNumpyWrites) {
  testing::TempFolder folder;
  const std::vector<float> values = {0, 1, 2, 3, 4, 5};
  const std::vector<int64_t> shape = {2, 3};
  ASSERT_TRUE(WriteNpy<float>(folder / "a.npy", shape, values));
  EXPECT_EQ(ReadAll(folder / "a.npy"), NumpyFile());
}

TEST(NpyTest, ReadsBackEveryShape) {
  testing::TempFolder folder;
  const std::vector<std::vector<int64_t>> shapes = {{}, {5}, {0}, {4, 0, 2}, {1, 2, 3, 4}};
  for (const auto& shape : shapes) {
    size_t elements = 1;
    for (const int64_t size : shape) elements *= static_cast<size_t>(size);
    const std::vector<int32_t> values(elements, -7);
    ASSERT_TRUE(WriteNpy<int32_t>(folder / "a.npy", shape, values));
    const auto array = ReadNpy<int32_t>(folder / "a.npy");
    ASSERT_TRUE(array) << array.error().message;
    EXPECT_EQ(array->shape, shape);
    EXPECT_EQ(array->values, values);
  }
}

TEST(NpyTest, RefusesWhatItCannotRead) {
  const std::string good = NumpyFile();
  const auto failure = [](const std::string& bytes) {
    const auto array = ParseNpy<float>(BytesOf(bytes), "a.npy");
    return array ? "" : array.error().message;
  };
  EXPECT_EQ(failure(good), "");
  for (size_t length = 0; length < good.size(); ++length) {
    EXPECT_THAT(failure(good.substr(0, length)), HasSubstr("a.npy: ")) << length;
  }
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string changed = good;
    return changed.replace(changed.find(from), from.size(), to);
  };
  EXPECT_THAT(failure(with("<f4", "<f8")), HasSubstr("has elements '<f8', but must have '<f4'"));
  EXPECT_THAT(failure(with("False", "True ")), HasSubstr("Fortran order"));
  EXPECT_THAT(failure(with("(2, 3)", "(2, 4)")), HasSubstr("24 bytes of data, but its shape"));
  EXPECT_THAT(failure(with("(2, 3), }        ", "(9999999999999,)}")), HasSubstr("24 bytes of"));
  EXPECT_THAT(failure(with("(2, 3)", "(-2, 3")), HasSubstr("no tuple"));
  EXPECT_THAT(failure(with("shape", "shame")), HasSubstr("without descr"));
}

TEST(NpyTest, ReadsReferenceData) {
  const auto shared = testing::SharedDir();
  if (!shared) GTEST_SKIP() << "no folder of reference data (MOXIE_SHARED)";
  const auto logits = ReadNpy<float>(*shared / "golden/mixtral-f32/logits.one.npy");
  ASSERT_TRUE(logits) << logits.error().message;
  EXPECT_THAT(logits->shape, ElementsAre(1, 509));
  const auto experts = ReadNpy<int32_t>(*shared / "golden/mixtral-f32/experts.one.npy");
  ASSERT_TRUE(experts) << experts.error().message;
  EXPECT_THAT(experts->shape, ElementsAre(3, 1, 2));
}

}  // namespace
}  // namespace moxie
