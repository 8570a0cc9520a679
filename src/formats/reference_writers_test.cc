// Files that the formats' own Python packages write are read with the same names, types, shapes,
// values and bytes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string>

#include "formats/gguf.h"
#include "formats/safetensors.h"
#include "support/python.h"
#include "support/temp_folder.h"

namespace moxie {
namespace {

using ::testing::ElementsAre;

constexpr const char* kWriteGguf = R"(
import sys
try:
    import gguf
    import numpy as np
except ImportError:
    sys.exit(77)
w = gguf.GGUFWriter(sys.argv[1], "llama")
w.add_uint32("llama.block_count", 7)
w.add_float32("eps", 1e-5)
w.add_bool("yes", True)
w.add_int64("long", -(1 << 40))
w.add_array("tokenizer.ggml.tokens", ["<s>", "\u2581a"])
w.add_array("tokenizer.ggml.token_type", [3, 1])
w.add_array("tokenizer.ggml.scores", [0.0, -1.5])
w.add_custom_alignment(64)
w.add_tensor("a", np.arange(6, dtype=np.float32).reshape(2, 3))
w.add_tensor("h", np.array([1.0], dtype=np.float16))
blocks = gguf.quants.quantize(np.ones((2, 1, 64), dtype=np.float32), gguf.GGMLQuantizationType.Q8_0)
w.add_tensor("q", blocks, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
w.write_header_to_file(); w.write_kv_data_to_file(); w.write_tensors_to_file(); w.close()
)";

template <class T>
std::vector<T> Values(const TensorFiles& files, std::string_view name) {
  const auto bytes = files.Bytes(*files.Find(name));
  std::vector<T> values(bytes.size() / sizeof(T));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

TEST(ReferenceWritersTest, Gguf) {
  testing::TempFolder folder;
  const int status = testing::RunPython(kWriteGguf, folder / "m.gguf");
  if (status == testing::kNotInstalled) GTEST_SKIP() << "Python's gguf package is not installed";
  ASSERT_EQ(status, 0);
  GgufMetadata metadata;
  const auto files = OpenGguf(folder / "m.gguf", &metadata);
  ASSERT_TRUE(files) << files.error().message;
  EXPECT_EQ(**metadata.Text("general.architecture"), "llama");
  EXPECT_EQ(*metadata.Find("llama.block_count"), GgufValue(uint32_t{7}));
  EXPECT_EQ(*metadata.Find("eps"), GgufValue(1e-5f));
  EXPECT_EQ(*metadata.Find("yes"), GgufValue(true));
  EXPECT_EQ(*metadata.Find("long"), GgufValue(-(int64_t{1} << 40)));
  EXPECT_THAT(**metadata.Texts("tokenizer.ggml.tokens"), ElementsAre("<s>", "\u2581a"));
  EXPECT_THAT(**metadata.Integers("tokenizer.ggml.token_type"), ElementsAre(3, 1));
  EXPECT_THAT(**metadata.Numbers("tokenizer.ggml.scores"), ElementsAre(0.0, -1.5));
  EXPECT_THAT(files->Find("a")->shape, ElementsAre(2, 3));
  EXPECT_THAT(Values<float>(*files, "a"), ElementsAre(0, 1, 2, 3, 4, 5));
  EXPECT_EQ(files->Find("a")->offset % 64, 0u);
  EXPECT_EQ(files->Find("h")->type, DType::kF16);
  EXPECT_THAT(Values<uint16_t>(*files, "h"), ElementsAre(0x3c00));
  EXPECT_EQ(files->Find("q")->type, DType::kQ8_0);
  EXPECT_THAT(files->Find("q")->shape, ElementsAre(2, 1, 64));
  const auto blocks = Values<int8_t>(*files, "q");
  ASSERT_EQ(blocks.size(), 4 * 34u);
  EXPECT_EQ(blocks[2], 127);  // A block of ones: two bytes of scale, then 127s.
}

constexpr const char* kWriteSafetensors = R"(
import sys
try:
    import numpy as np
    from safetensors.numpy import save_file
except ImportError:
    sys.exit(77)
save_file({"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array(7, dtype=np.int64),
           "c": np.array([[250]], dtype=np.uint8), "d": np.array([True, False]),
           "e": np.array([1.0], dtype=np.float16)}, sys.argv[1], {"format": "np"})
)";

TEST(ReferenceWritersTest, Safetensors) {
  testing::TempFolder folder;
  const int status = testing::RunPython(kWriteSafetensors, folder / "m.safetensors");
  if (status == testing::kNotInstalled) GTEST_SKIP() << "Python's safetensors is not installed";
  ASSERT_EQ(status, 0);
  const auto files = OpenSafetensors({folder / "m.safetensors"});
  ASSERT_TRUE(files) << files.error().message;
  EXPECT_EQ(files->tensors().size(), 5u);
  EXPECT_THAT(files->Find("a")->shape, ElementsAre(2, 3));
  EXPECT_THAT(Values<float>(*files, "a"), ElementsAre(0, 1, 2, 3, 4, 5));
  EXPECT_TRUE(files->Find("b")->shape.empty());
  EXPECT_THAT(Values<int64_t>(*files, "b"), ElementsAre(7));
  EXPECT_EQ(files->Find("c")->type, DType::kI8);
  EXPECT_THAT(Values<uint8_t>(*files, "c"), ElementsAre(250));
  EXPECT_THAT(Values<uint8_t>(*files, "d"), ElementsAre(1, 0));
  EXPECT_THAT(Values<uint16_t>(*files, "e"), ElementsAre(0x3c00));
}

}  // namespace
}  // namespace moxie
