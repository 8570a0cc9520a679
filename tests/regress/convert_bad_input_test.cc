// GGUFs whose tensors have types that cannot be rearranged as a folder wants them: refused with one
// sentence, since reading them with strides of elements would run past their ends.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "formats/model_files.h"
#include "formats/tensor_writer.h"
#include "moxie/convert.h"
#include "support/source_dir.h"
#include "support/temp_folder.h"

namespace moxie {
namespace {

using ::testing::HasSubstr;
using testing::TempFolder;

/// Writes a reference GGUF again with tensors whose names contain `part` in another type, of zeros.
void WriteWith(const std::string& model, const std::string& part, DType type,
               const std::filesystem::path& out) {
  const auto files = OpenModelFiles(SourceDir() / "tests/golden/gguf" / (model + ".gguf"));
  ASSERT_TRUE(files) << files.error().message;
  std::vector<TensorSpec> specs;
  size_t changed = 0;
  for (const TensorInfo& tensor : files->tensors.tensors()) {
    const bool change = tensor.name.find(part) != std::string::npos;
    if (change) ++changed;
    specs.push_back({tensor.name, change ? type : tensor.type, tensor.shape});
  }
  ASSERT_GT(changed, 0u);
  auto writer = TensorWriter::CreateGguf(out, files->metadata, specs);
  ASSERT_TRUE(writer) << writer.error().message;
  for (size_t i = 0; i < specs.size(); ++i) {
    const TensorInfo& tensor = files->tensors.tensors()[i];
    if (specs[i].type == tensor.type) {
      ASSERT_TRUE(writer->Write(files->tensors.Bytes(tensor)));
    } else {
      const std::vector<std::byte> zeros(
          static_cast<size_t>(BytesOf(specs[i].type, tensor.elements()).value()));
      ASSERT_TRUE(writer->Write(zeros));
    }
  }
  ASSERT_TRUE(writer->Finish());
}

std::string Refusal(const std::string& model, const std::string& part, DType type) {
  const TempFolder temp;
  WriteWith(model, part, type, temp / "m.gguf");
  const auto done = Convert((temp / "m.gguf").string(), (temp / "out").string(), {});
  EXPECT_FALSE(std::filesystem::exists(temp / "out"));
  return done ? "no error" : done.error().message;
}

TEST(ConvertBadInput, RefusesTypesThatCannotBeRearranged) {
  EXPECT_THAT(Refusal("gptoss", "ffn_down_exps.bias", DType::kQ8_0),
              HasSubstr("blk.0.ffn_down_exps.bias has type q8_0, but must be f32, f16 or bf16"));
  EXPECT_THAT(Refusal("gptoss", "ffn_gate_exps.weight", DType::kQ8_0),
              HasSubstr("has experts of bf16 and of q8_0"));
  EXPECT_THAT(Refusal("gptoss", "ffn_up_exps.bias", DType::kBF16),
              HasSubstr("has experts of bf16 and of f32"));
  EXPECT_THAT(Refusal("gptoss", "ffn_up_exps.weight", DType::kF32),
              HasSubstr("has experts of f32 and of bf16"));
  EXPECT_THAT(Refusal("gptoss", "ffn_up_exps.weight", DType::kMXFP4),
              HasSubstr("has experts of mxfp4 and of bf16"));
}

}  // namespace
}  // namespace moxie
