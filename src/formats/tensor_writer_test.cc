#include "formats/tensor_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "formats/safetensors.h"
#include "support/python.h"
#include "support/temp_folder.h"

namespace moxie {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

std::span<const std::byte> BytesOf(const std::string& text) {
  return std::as_bytes(std::span(text));
}

/// One value of every type, scalars and arrays.
GgufMetadata EveryType() {
  GgufMetadata metadata;
  auto& values = metadata.values;
  values["general.architecture"] = std::string("test");
  values["u8"] = uint8_t{255};
  values["i8"] = int8_t{-128};
  values["u16"] = uint16_t{65535};
  values["i16"] = int16_t{-32768};
  values["u32"] = uint32_t{4294967295u};
  values["i32"] = int32_t{-2147483647};
  values["f32"] = 0.1f;
  values["bool"] = true;
  values["u64"] = uint64_t{1} << 63;
  values["i64"] = -(int64_t{1} << 62);
  values["f64"] = 0.1;
  values["a.u8"] = GgufArray(std::vector<uint8_t>{1, 2});
  values["a.i8"] = GgufArray(std::vector<int8_t>{-1});
  values["a.u16"] = GgufArray(std::vector<uint16_t>{1});
  values["a.i16"] = GgufArray(std::vector<int16_t>{-1});
  values["a.u32"] = GgufArray(std::vector<uint32_t>{});
  values["a.i32"] = GgufArray(std::vector<int32_t>{-1, 7});
  values["a.f32"] = GgufArray(std::vector<float>{0.5f});
  values["a.bool"] = GgufArray(std::vector<bool>{true, false, true});
  values["a.text"] = GgufArray(std::vector<std::string>{"a", "", "größe"});
  values["a.u64"] = GgufArray(std::vector<uint64_t>{1});
  values["a.i64"] = GgufArray(std::vector<int64_t>{-1});
  values["a.f64"] = GgufArray(std::vector<double>{0.25});
  return metadata;
}

const std::vector<TensorSpec>& Specs() {
  static const std::vector<TensorSpec> kSpecs = {
      {"a", DType::kF32, {3}}, {"b.q", DType::kQ8_0, {2, 32}}, {"c", DType::kF16, {1, 2, 3}}};
  return kSpecs;
}

const std::string kData[] = {std::string(12, 'a'), std::string(68, 'b'), std::string(12, 'c')};

void WriteAll(TensorWriter* writer) {
  ASSERT_TRUE(writer->Write(BytesOf(kData[0])));
  // In pieces of any size.
  ASSERT_TRUE(writer->Write(BytesOf(kData[1].substr(0, 1))));
  ASSERT_TRUE(writer->Write({}));
  ASSERT_TRUE(writer->Write(BytesOf(kData[1].substr(1))));
  ASSERT_TRUE(writer->Write(BytesOf(kData[2])));
}

std::string Text(const TensorFiles& files, std::string_view name) {
  const auto bytes = files.Bytes(*files.Find(name));
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

TEST(TensorWriterTest, AGgufReadsBackWithEveryTypeKept) {
  for (const uint32_t alignment : {0u, 8u, 64u}) {
    testing::TempFolder folder;
    GgufMetadata metadata = EveryType();
    if (alignment != 0) metadata.values["general.alignment"] = alignment;
    const auto expected = metadata.values;
    metadata.values["split.count"] = uint16_t{3};
    auto writer = TensorWriter::CreateGguf(folder / "m.gguf", metadata, Specs());
    ASSERT_TRUE(writer) << writer.error().message;
    WriteAll(&*writer);
    EXPECT_FALSE(fs::exists(folder / "m.gguf"));
    ASSERT_TRUE(writer->Finish());

    GgufMetadata read;
    const auto files = OpenGguf(folder / "m.gguf", &read);
    ASSERT_TRUE(files) << files.error().message;
    EXPECT_EQ(read.values, expected);
    ASSERT_EQ(files->tensors().size(), Specs().size());
    for (size_t i = 0; i < Specs().size(); ++i) {
      const TensorInfo& tensor = files->tensors()[i];
      EXPECT_EQ(tensor.name, Specs()[i].name);
      EXPECT_EQ(tensor.type, Specs()[i].type);
      EXPECT_EQ(tensor.shape, Specs()[i].shape);
      EXPECT_EQ(Text(*files, tensor.name), kData[i]);
    }
  }
}

// Prints what it reads; the strings are those of EveryType and Specs.
constexpr const char* kReadWithGguf = R"(
import sys
try:
    import gguf
except ImportError:
    sys.exit(77)
r = gguf.GGUFReader(sys.argv[1])
types = {k: [t.name for t in f.types] for k, f in r.fields.items() if not k.startswith("GGUF.")}
for name in "u8 i8 u16 i16 u32 i32 f32 bool u64 i64 f64 text".split():
    want = {"u": "UINT", "i": "INT", "f": "FLOAT"}.get(name[0], "") + name[1:]
    want = {"bool": "BOOL", "text": "STRING"}.get(name, want)
    if name != "text":
        assert types[name] == [want], (name, types[name])
    if name != "u32":  # The reader gives an empty array no element type.
        assert types["a." + name] == ["ARRAY", want], (name, types["a." + name])
assert r.fields["i16"].contents() == -32768 and r.fields["u64"].contents() == 1 << 63
assert r.fields["a.text"].contents() == ["a", "", "größe"], r.fields["a.text"].contents()
assert r.fields["a.bool"].contents() == [True, False, True]
assert [(t.name, t.tensor_type.name, [int(d) for d in t.shape]) for t in r.tensors] == [
    ("a", "F32", [3]), ("b.q", "Q8_0", [32, 2]), ("c", "F16", [3, 2, 1])]
assert [bytes(t.data.tobytes()[:1]) for t in r.tensors] == [b"a", b"b", b"c"]
)";

constexpr const char* kReadWithSafetensors = R"(
import sys
try:
    from safetensors import safe_open
    import numpy
except ImportError:
    sys.exit(77)
with safe_open(sys.argv[1], framework="np") as f:
    assert f.metadata() == {"format": "größe \"x\""}, f.metadata()
    assert sorted(f.keys()) == ["a", "b\n", "c"]
    assert f.get_tensor("a").shape == (3,) and f.get_tensor("a").dtype == numpy.float32
    assert f.get_tensor("b\n").tobytes() == b"b" * 8 and f.get_tensor("b\n").dtype == numpy.int64
    assert f.get_tensor("c").shape == (1, 2, 3)
)";

TEST(TensorWriterTest, TheReferenceReadsAGguf) {
  testing::TempFolder folder;
  auto writer = TensorWriter::CreateGguf(folder / "m.gguf", EveryType(), Specs());
  ASSERT_TRUE(writer) << writer.error().message;
  WriteAll(&*writer);
  ASSERT_TRUE(writer->Finish());
  const int status = testing::RunPython(kReadWithGguf, folder / "m.gguf");
  if (status == testing::kNotInstalled) GTEST_SKIP() << "Python's gguf package is not installed";
  EXPECT_EQ(status, 0);
}

TEST(TensorWriterTest, TheReferenceReadsSafetensors) {
  testing::TempFolder folder;
  const std::vector<TensorSpec> specs = {
      {"a", DType::kF32, {3}}, {"b\n", DType::kI64, {1}}, {"c", DType::kF16, {1, 2, 3}}};
  auto writer =
      TensorWriter::CreateSafetensors(folder / "m.safetensors", {{"format", "größe \"x\""}}, specs);
  ASSERT_TRUE(writer) << writer.error().message;
  ASSERT_TRUE(writer->Write(BytesOf(std::string(12, 'a'))));
  ASSERT_TRUE(writer->Write(BytesOf(std::string(8, 'b'))));
  ASSERT_TRUE(writer->Write(BytesOf(std::string(12, 'c'))));
  ASSERT_TRUE(writer->Finish());

  const auto files = OpenSafetensors({folder / "m.safetensors"});
  ASSERT_TRUE(files) << files.error().message;
  EXPECT_EQ(Text(*files, "b\n"), std::string(8, 'b'));
  EXPECT_EQ(files->Find("c")->shape, (std::vector<int64_t>{1, 2, 3}));
  EXPECT_EQ(files->Find("a")->offset % 8, 0u);

  const int status = testing::RunPython(kReadWithSafetensors, folder / "m.safetensors");
  if (status == testing::kNotInstalled)
    GTEST_SKIP() << "Python's safetensors package is not installed";
  EXPECT_EQ(status, 0);
}

TEST(TensorWriterTest, AnInterruptedFileLeavesNothing) {
  testing::TempFolder folder;
  {
    auto writer = TensorWriter::CreateGguf(folder / "m.gguf", EveryType(), Specs());
    ASSERT_TRUE(writer);
    ASSERT_TRUE(writer->Write(BytesOf(kData[0])));
  }
  EXPECT_TRUE(fs::is_empty(folder.path()));
}

TEST(TensorWriterTest, RefusesWhatAFileCannotHold) {
  testing::TempFolder folder;
  const auto gguf = [&](const std::vector<TensorSpec>& specs, const GgufMetadata& metadata = {}) {
    return TensorWriter::CreateGguf(folder / "m.gguf", metadata, specs).error().message;
  };
  EXPECT_THAT(gguf({{"a", DType::kF32, {1}}, {"a", DType::kF32, {1}}}), HasSubstr("two tensors"));
  EXPECT_THAT(gguf({{"a", DType::kQ8_0, {33}}}), HasSubstr("blocks of 32"));
  GgufMetadata metadata;
  metadata.values["general.alignment"] = uint32_t{3};
  EXPECT_THAT(gguf({}, metadata), HasSubstr("general.alignment is 3"));
  const auto safetensors = [&](const std::vector<TensorSpec>& specs) {
    return TensorWriter::CreateSafetensors(folder / "m.safetensors", {}, specs).error().message;
  };
  EXPECT_THAT(safetensors({{"a", DType::kQ8_0, {32}}}), HasSubstr("cannot hold a as q8_0"));
  EXPECT_THAT(safetensors({{"\xff", DType::kF32, {1}}}), HasSubstr("not UTF-8"));
}

}  // namespace
}  // namespace moxie
