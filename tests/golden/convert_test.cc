// Conversion of the reference folders: to GGUF and back, nothing is lost.
#include "moxie/convert.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "formats/model_files.h"
#include "model/config.h"
#include "model/names.h"
#include "quant/dequantize.h"
#include "support/golden.h"
#include "support/temp_folder.h"
#include "tokenizer/tokenizer.h"

namespace moxie {
namespace {

using namespace moxie::testing;
namespace fs = std::filesystem;

const fs::path kModels = SourceDir() / "tests/golden/models";

/// The reference folders, and those in Mistral's own layout.
std::vector<fs::path> Folders() {
  std::vector<fs::path> folders = GoldenModelFolders();
  if (const auto shared = SharedDir()) {
    for (const auto& entry : fs::directory_iterator(*shared / "golden"))
      if (fs::exists(entry.path() / "params.json")) folders.push_back(entry.path());
  }
  return folders;
}

std::vector<float> LogitsOf(const fs::path& path) {
  const auto model = LoadModel(path);
  if (!model) {
    ADD_FAILURE() << model.error().message;
    return {};
  }
  Runner runner(**model, {});
  const std::vector<int32_t> ids = {1, 5, 9, 20, 33, 7, 8, 100, 101, 30, 31, 5, 5, 6, 250, 2};
  return runner.Run(runner.NewSequence(), ids);
}

void MustConvert(const fs::path& in, const fs::path& out, const ConvertOptions& options = {}) {
  const Result<void> done = Convert(in.string(), out.string(), options);
  ASSERT_TRUE(done) << done.error().message;
}

ModelFiles MustOpen(const fs::path& path) {
  auto files = OpenModelFiles(path);
  if (files) return std::move(*files);
  ADD_FAILURE() << files.error().message;
  return {};
}

std::string BytesOfFile(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::string MessageOf(const fs::path& in, const fs::path& out, const ConvertOptions& options = {}) {
  const Result<void> done = Convert(in.string(), out.string(), options);
  return done ? "" : done.error().message;
}

class ConvertedFolder : public ::testing::TestWithParam<fs::path> {};

TEST_P(ConvertedFolder, GivesTheFoldersLogitsToTheLastBit) {
  const TempFolder temp;
  MustConvert(GetParam(), temp / "model.gguf");
  const std::vector<float> want = LogitsOf(GetParam());
  EXPECT_EQ(LogitsOf(temp / "model.gguf"), want);
  MustConvert(temp / "model.gguf", temp / "back");
  EXPECT_EQ(LogitsOf(temp / "back"), want);
}

TEST_P(ConvertedFolder, ComesBackWithTheSameTensors) {
  const TempFolder temp;
  MustConvert(GetParam(), temp / "model.gguf");
  MustConvert(temp / "model.gguf", temp / "back");
  const ModelFiles original = MustOpen(GetParam());
  const ModelFiles back = MustOpen(temp / "back");
  if (original.layout != FileLayout::kHuggingFace) return;  // Other names; the logits say enough.
  const auto config = ReadModelConfig(original);
  ASSERT_TRUE(config);
  size_t dropped = 0;
  for (const TensorInfo& want : original.tensors.tensors()) {
    const int64_t layer = LayerOf(FileLayout::kHuggingFace, want.name);
    if (layer >= static_cast<int64_t>(config->layers.size()) ||
        (config->tied_embeddings && want.name == "lm_head.weight")) {
      ++dropped;  // Layers that predict further tokens; a tied matrix repeated.
      continue;
    }
    const TensorInfo* got = back.tensors.Find(want.name);
    ASSERT_NE(got, nullptr) << want.name;
    EXPECT_EQ(got->shape, want.shape) << want.name;
    EXPECT_EQ(NameOf(got->type), NameOf(want.type)) << want.name;
    const auto a = back.tensors.Bytes(*got);
    const auto b = original.tensors.Bytes(want);
    EXPECT_TRUE(std::ranges::equal(a, b)) << want.name;
  }
  EXPECT_EQ(back.tensors.tensors().size() + dropped, original.tensors.tensors().size());
}

TEST_P(ConvertedFolder, KeepsItsTokenizer) {
  const TempFolder temp;
  MustConvert(GetParam(), temp / "model.gguf");
  MustConvert(temp / "model.gguf", temp / "back");
  // SentencePiece's rules are the ones a GGUF has. A tokenizer.json beside them may differ in where
  // a text's first space goes (Metaspace's scheme "first").
  fs::create_directory(temp / "original");
  const bool scored = fs::exists(GetParam() / "tokenizer.model");
  for (const auto& entry : fs::directory_iterator(GetParam())) {
    const fs::path name = entry.path().filename();
    if (name.extension() == ".npy" || (scored && name == "tokenizer.json")) continue;
    fs::copy(entry.path(), temp / "original" / name);
  }
  const auto original = LoadTokenizer(MustOpen(temp / "original"));
  ASSERT_TRUE(original) << original.error().message;
  std::vector<std::string> texts = {"", "Hello <s>, world!</s>", " a  b\n\n"};
  if (fs::exists(GetParam() / "golden.json")) {
    const auto golden = nlohmann::json::parse(std::ifstream(GetParam() / "golden.json"));
    if (golden.contains("tokenizer"))
      for (const auto& entry : golden["tokenizer"]["cases"]) texts.push_back(entry["text"]);
  }
  for (const char* name : {"model.gguf", "back"}) {
    SCOPED_TRACE(name);
    const auto made = LoadTokenizer(MustOpen(temp / name));
    ASSERT_TRUE(made) << made.error().message;
    EXPECT_EQ((*made)->bos(), (*original)->bos());
    EXPECT_EQ((*made)->eos(), (*original)->eos());
    EXPECT_THAT((*made)->stop_tokens(), ::testing::IsSupersetOf((*original)->stop_tokens()));
    for (const std::string& text : texts) {
      for (const EncodeOptions& options :
           {EncodeOptions{.add_special = true}, EncodeOptions{.add_special = false}}) {
        EXPECT_EQ((*made)->Encode(text, options), (*original)->Encode(text, options)) << text;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, ConvertedFolder, ::testing::ValuesIn(Folders()),
                         [](const auto& test) { return FolderTestName(test.param); });

/// What tests/golden/make_gguf.py wrote of the same folder, with the gguf package.
class ConvertedLikeTheReference : public ::testing::TestWithParam<std::string> {};

TEST_P(ConvertedLikeTheReference, HasItsKeysAndTensors) {
  const TempFolder temp;
  MustConvert(kModels / GetParam(), temp / "model.gguf");
  const ModelFiles ours = MustOpen(temp / "model.gguf");
  const ModelFiles reference = MustOpen(SourceDir() / "tests/golden/gguf" / (GetParam() + ".gguf"));
  for (const auto& [key, value] : reference.metadata.values) {
    if (key == "gpt-oss.rope.scaling.yarn_log_multiplier") continue;  // 0, which is the default.
    const GgufValue* got = ours.metadata.Find(key);
    ASSERT_NE(got, nullptr) << key;
    EXPECT_EQ(*got, value) << key;
  }
  const auto values = [](const ModelFiles& files, const TensorInfo& tensor) {
    std::vector<float> out(static_cast<size_t>(tensor.elements()));
    Dequantize(tensor.type, files.tensors.Bytes(tensor).data(), tensor.elements(), out.data());
    return out;
  };
  EXPECT_EQ(ours.tensors.tensors().size(), reference.tensors.tensors().size());
  for (const TensorInfo& want : reference.tensors.tensors()) {
    const TensorInfo* got = ours.tensors.Find(want.name);
    ASSERT_NE(got, nullptr) << want.name;
    EXPECT_EQ(got->shape, want.shape) << want.name;
    EXPECT_EQ(values(ours, *got), values(reference, want)) << want.name;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, ConvertedLikeTheReference,
                         ::testing::Values("mixtral", "mistral-window", "llama-linear-bias",
                                           "llama3-rope", "qwen2", "qwen2moe", "qwen3", "qwen3moe",
                                           "olmoe", "gptoss", "deepseekv3"),
                         [](const auto& test) {
                           std::string name = test.param;
                           std::ranges::replace(name, '-', '_');
                           return name;
                         });

TEST(Convert, SplitSetIsTheOneFile) {
  const TempFolder temp;
  MustConvert(kModels / "mixtral", temp / "one.gguf");
  MustConvert(kModels / "mixtral", temp / "set.gguf", {.split_bytes = 100'000});
  EXPECT_FALSE(fs::exists(temp / "set.gguf"));
  std::vector<fs::path> parts;
  for (const auto& entry : fs::directory_iterator(temp.path()))
    if (entry.path().filename().string().starts_with("set-")) parts.push_back(entry.path());
  ASSERT_GT(parts.size(), 2u);
  char first[64];
  std::snprintf(first, sizeof first, "set-00001-of-%05zu.gguf", parts.size());
  const ModelFiles one = MustOpen(temp / "one.gguf");
  const ModelFiles set = MustOpen(temp / first);
  EXPECT_EQ(set.tensors.files().size(), parts.size());
  ASSERT_EQ(set.tensors.tensors().size(), one.tensors.tensors().size());
  for (const TensorInfo& want : one.tensors.tensors()) {
    const TensorInfo* got = set.tensors.Find(want.name);
    ASSERT_NE(got, nullptr);
    EXPECT_TRUE(std::ranges::equal(set.tensors.Bytes(*got), one.tensors.Bytes(want)));
  }
}

TEST(Convert, ShardsOfAFolderHaveAnIndex) {
  const TempFolder temp;
  MustConvert(kModels / "qwen3moe", temp / "model.gguf");
  MustConvert(temp / "model.gguf", temp / "folder", {.split_bytes = 50'000});
  EXPECT_TRUE(fs::exists(temp / "folder" / "model.safetensors.index.json"));
  EXPECT_FALSE(fs::exists(temp / "folder" / "model.safetensors"));
  EXPECT_EQ(LogitsOf(temp / "folder"), LogitsOf(kModels / "qwen3moe"));
}

std::vector<float> ValuesOf(const ModelFiles& files, const std::string& name) {
  const TensorInfo* tensor = files.tensors.Find(name);
  if (tensor == nullptr) {
    ADD_FAILURE() << name << " is missing";
    return {};
  }
  std::vector<float> out(static_cast<size_t>(tensor->elements()));
  Dequantize(tensor->type, files.tensors.Bytes(*tensor).data(), tensor->elements(), out.data());
  return out;
}

/// Quantised matrices that a folder holds transposed: every element is the GGUF's.
TEST(Convert, TransposesQuantisedExperts) {
  for (const char* type : {"q8_0", "mxfp4"}) {
    SCOPED_TRACE(type);
    const TempFolder temp;
    MustConvert(kModels / "gptoss", temp / "model.gguf", {.type = type});
    MustConvert(temp / "model.gguf", temp / "folder", {.type = "f32", .memory_bytes = 20'000});
    const ModelFiles gguf = MustOpen(temp / "model.gguf");
    const ModelFiles folder = MustOpen(temp / "folder");
    const TensorInfo* gate_info = gguf.tensors.Find("blk.1.ffn_gate_exps.weight");
    ASSERT_NE(gate_info, nullptr);
    ASSERT_EQ(NameOf(gate_info->type), type);
    const auto gate = ValuesOf(gguf, "blk.1.ffn_gate_exps.weight");
    const auto up = ValuesOf(gguf, "blk.1.ffn_up_exps.weight");
    const auto both = ValuesOf(folder, "model.layers.1.mlp.experts.gate_up_proj");
    ASSERT_EQ(both.size(), gate.size() + up.size());
    const auto ffn = static_cast<size_t>(gate_info->shape[1]);
    const auto dim = static_cast<size_t>(gate_info->shape[2]);
    for (size_t i = 0; i < gate.size(); ++i) {
      const size_t e = i / (ffn * dim), f = i / dim % ffn, d = i % dim;
      const size_t at = (e * dim + d) * 2 * ffn + 2 * f;
      ASSERT_EQ(both[at], gate[i]);
      ASSERT_EQ(both[at + 1], up[i]);
    }
  }
}

TEST(Convert, MemoryAndThreadsDoNotShowInTheFile) {
  for (const char* name : {"gptoss", "deepseekv3", "mixtral"}) {
    SCOPED_TRACE(name);
    const TempFolder temp;
    MustConvert(kModels / name, temp / "a.gguf", {.type = "q8_0", .threads = 2});
    MustConvert(kModels / name, temp / "b.gguf",
                {.type = "q8_0", .memory_bytes = 4096, .threads = 3});
    EXPECT_TRUE(BytesOfFile(temp / "a.gguf") == BytesOfFile(temp / "b.gguf"));
  }
}

TEST(Convert, KeepsSmallTensorsInFloat32) {
  const TempFolder temp;
  MustConvert(kModels / "deepseekv3", temp / "model.gguf", {.type = "q8_0"});
  const ModelFiles files = MustOpen(temp / "model.gguf");
  EXPECT_EQ(files.metadata.Integer("general.file_type").value(), 7);
  const auto type = [&](const std::string& name) {
    const TensorInfo* tensor = files.tensors.Find(name);
    return tensor == nullptr ? "absent" : NameOf(tensor->type);
  };
  EXPECT_EQ(type("blk.0.attn_norm.weight"), "f32");
  EXPECT_EQ(type("blk.1.ffn_gate_inp.weight"), "f32");
  EXPECT_EQ(type("blk.1.exp_probs_b.bias"), "f32");
  EXPECT_EQ(type("blk.1.ffn_gate_exps.weight"), "q8_0");
  for (const TensorInfo& tensor : files.tensors.tensors()) {
    if (tensor.type == DType::kF32 || tensor.type == DType::kQ8_0) continue;
    EXPECT_EQ(NameOf(tensor.type), "f16") << tensor.name;
    EXPECT_NE(tensor.shape.back() % 32, 0) << tensor.name;
  }
}

TEST(Convert, RefusesWithOneSentence) {
  const TempFolder temp;
  const fs::path out = temp / "o.gguf";
  EXPECT_THAT(MessageOf(kModels / "mixtral", out, {.type = "iq1_s"}),
              ::testing::HasSubstr("--type is \"iq1_s\", but must be"));
  EXPECT_THAT(MessageOf(kModels / "mixtral", out, {.memory_bytes = 64}),
              ::testing::HasSubstr("one row needs"));
  EXPECT_FALSE(fs::exists(out));
  MustConvert(kModels / "mixtral", out);
  EXPECT_THAT(MessageOf(out, temp / "p.gguf"), ::testing::HasSubstr("is a GGUF"));
  EXPECT_THAT(MessageOf(out, temp / "folder", {.type = "q8_0"}),
              ::testing::HasSubstr("must be bf16, f16 or f32"));
  fs::create_directory(temp / "full");
  std::ofstream(temp / "full" / "file") << "x";
  EXPECT_THAT(MessageOf(out, temp / "full"), ::testing::HasSubstr("is there already"));
}

/// A copy of a reference folder whose tokenizer.json was changed.
void WithTokenizer(const fs::path& to, const std::function<void(nlohmann::json&)>& change) {
  fs::copy(kModels / "qwen3", to);
  auto json = nlohmann::json::parse(std::ifstream(to / "tokenizer.json"));
  change(json);
  std::ofstream(to / "tokenizer.json") << json.dump();
}

TEST(Convert, RefusesTokenizersThatAGgufCannotSay) {
  const TempFolder temp;
  WithTokenizer(temp / "split", [](nlohmann::json& json) {
    json["pre_tokenizer"] = {
        {"type", "Sequence"},
        {"pretokenizers",
         {{{"type", "Split"}, {"pattern", {{"Regex", "x+"}}}, {"behavior", "Isolated"}},
          {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}}}};
  });
  EXPECT_THAT(MessageOf(temp / "split", temp / "o.gguf"),
              ::testing::HasSubstr("splits text by x+, for which GGUF has no name"));
  // NFC has a name together with this split (olmo); NFKC has none.
  WithTokenizer(temp / "nfc", [](nlohmann::json& json) { json["normalizer"]["type"] = "NFC"; });
  EXPECT_EQ(MessageOf(temp / "nfc", temp / "o.gguf"), "");
  WithTokenizer(temp / "nfkc", [](nlohmann::json& json) { json["normalizer"]["type"] = "NFKC"; });
  EXPECT_THAT(MessageOf(temp / "nfkc", temp / "o.gguf"),
              ::testing::HasSubstr("normalises with NFKC"));
  // A space put before the text has no key: found by comparing.
  WithTokenizer(temp / "space",
                [](nlohmann::json& json) { json["pre_tokenizer"]["add_prefix_space"] = true; });
  EXPECT_THAT(MessageOf(temp / "space", temp / "p.gguf"),
              ::testing::HasSubstr("its tokenizer gives"));
  EXPECT_FALSE(fs::exists(temp / "p.gguf"));
}

TEST(Convert, StopsWhereAskedAndLeavesNothing) {
  const TempFolder temp;
  ConvertOptions options;
  options.progress = [](double) { return false; };
  const auto stopped = Convert((kModels / "mixtral").string(), (temp / "o.gguf").string(), options);
  ASSERT_FALSE(stopped);
  EXPECT_EQ(stopped.error().code, ErrorCode::kCancelled);
  EXPECT_TRUE(fs::is_empty(temp.path()));
  MustConvert(kModels / "mixtral", temp / "model.gguf");
  ASSERT_FALSE(Convert((temp / "model.gguf").string(), (temp / "folder").string(), options));
  fs::remove(temp / "model.gguf");
  EXPECT_TRUE(fs::is_empty(temp.path()));
}

}  // namespace
}  // namespace moxie
