// Quantising whole models: what is written, and that types chosen for a size are good ones.
#include "moxie/quantize.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "convert/quantize_source.h"
#include "convert/type_costs.h"
#include "formats/model_files.h"
#include "model/mix.h"
#include "moxie/evaluate.h"
#include "support/random_mixture.h"
#include "support/temp_folder.h"

namespace moxie {
namespace {

using namespace moxie::testing;
namespace fs = std::filesystem;
using ::testing::HasSubstr;

/// Some 1200 tokens of bytes that repeat nowhere.
std::string Text(uint32_t seed) {
  std::mt19937 random(seed);
  std::string text;
  for (int i = 0; i < 1500; ++i) text += static_cast<char>(' ' + random() % 95);
  return text;
}

std::unique_ptr<Model> MustOpen(const fs::path& path) {
  ModelOptions options;
  options.context = 512;
  options.parallel = 4;
  options.batch_invariant = true;  // What runs together must not matter by a bit.
  auto model = Model::Open(path.string(), options);
  if (model) return std::move(*model);
  ADD_FAILURE() << model.error().message;
  return nullptr;
}

QuantizeReport MustQuantize(const fs::path& in, const fs::path& out,
                            const QuantizeOptions& options) {
  auto done = QuantizeModel(in.string(), out.string(), options);
  if (done) return *done;
  ADD_FAILURE() << done.error().message;
  return {};
}

/// The divergence of `other` from `base` on a text that nothing was chosen with.
double DivergenceOf(const fs::path& other, Model& base) {
  const auto model = MustOpen(other);
  const auto measured = MeasurePerplexity(*model, Text(2), {.window = 128}, {}, &base);
  EXPECT_TRUE(measured);
  return measured ? measured->divergence->mean : NAN;
}

std::map<std::string, std::string> TypesIn(const fs::path& path) {
  std::map<std::string, std::string> types;
  const auto files = OpenModelFiles(path);
  EXPECT_TRUE(files);
  for (const TensorInfo& tensor : files->tensors.tensors())
    types[tensor.name] = std::string(NameOf(tensor.type));
  return types;
}

class Quantize : public ::testing::Test {
 protected:
  void SetUp() override { WriteRandomMixture(in_); }

  const TempFolder folder_;
  const fs::path in_ = folder_ / "in.gguf";
  const fs::path out_ = folder_ / "out.gguf";
};

TEST_F(Quantize, DivergesLessWithMoreBits) {
  const auto base = MustOpen(in_);
  double before = INFINITY;
  for (const char* type : {"q4_0", "q5_0", "q8_0", "f16", "f32"}) {
    const QuantizeReport report = MustQuantize(in_, out_, {.type = type});
    EXPECT_LE(report.bytes_after, report.bytes_before);
    EXPECT_LT(report.bytes_after, static_cast<int64_t>(fs::file_size(out_)));
    const double now = DivergenceOf(out_, *base);
    EXPECT_LT(now, before) << type;
    before = now;
  }
  EXPECT_EQ(before, 0) << "float32 is the model itself";
}

TEST_F(Quantize, WritesTheTypesThatRulesName) {
  MustQuantize(in_, out_,
               {.type = "q8_0", .tensor_types = {{"*ffn_down*", "q5_1"}, {"*attn_?.*", "iq4_nl"}}});
  const auto types = TypesIn(out_);
  EXPECT_EQ(types.at("blk.1.ffn_down_exps.weight"), "q5_1");
  EXPECT_EQ(types.at("blk.0.attn_q.weight"), "iq4_nl");
  EXPECT_EQ(types.at("blk.0.attn_output.weight"), "q8_0");
  EXPECT_EQ(types.at("blk.0.attn_norm.weight"), "f32");
  EXPECT_EQ(types.at("blk.0.ffn_gate_inp.weight"), "f32") << "routers stay";
}

TEST_F(Quantize, WritesTheSameWhateverTheMemoryAndThreads) {
  const auto bytes = [&](const QuantizeOptions& options) {
    MustQuantize(in_, out_, options);
    std::ifstream file(out_, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
  };
  const std::string want = bytes({.type = "q4_0", .threads = 1});
  EXPECT_EQ(bytes({.type = "q4_0", .threads = 3}), want);
  EXPECT_EQ(bytes({.type = "q4_0", .memory_bytes = 8192, .threads = 3}), want);
}

TEST_F(Quantize, TakesAFolderAsItsGguf) {
  const fs::path golden = SourceDir() / "tests/golden/models/olmoe";
  ASSERT_TRUE(Convert(golden.string(), (folder_ / "olmoe.gguf").string(), {}));
  MustQuantize(golden, folder_ / "a.gguf", {.type = "q8_0"});
  MustQuantize(folder_ / "olmoe.gguf", folder_ / "b.gguf", {.type = "q8_0"});
  const auto a = OpenModelFiles(folder_ / "a.gguf"), b = OpenModelFiles(folder_ / "b.gguf");
  ASSERT_TRUE(a && b);
  ASSERT_EQ(a->tensors.tensors().size(), b->tensors.tensors().size());
  for (const TensorInfo& tensor : a->tensors.tensors())
    EXPECT_TRUE(std::ranges::equal(a->tensors.Bytes(tensor),
                                   b->tensors.Bytes(*b->tensors.Find(tensor.name))))
        << tensor.name;
}

TEST_F(Quantize, AFolderWithSeparateExpertsIsWeighedByImportance) {
  const fs::path golden = SourceDir() / "tests/golden/models/olmoe";
  const auto model = MustOpen(golden);
  const std::string importance = (folder_ / "i.gguf").string();
  ASSERT_TRUE(MeasureImportance(*model, Text(1), importance, {.window = 64}));
  ASSERT_TRUE(Convert(golden.string(), (folder_ / "olmoe.gguf").string(), {}));
  const QuantizeOptions options = {.type = "q4_0", .importance = importance};
  MustQuantize(golden, folder_ / "a.gguf", options);
  MustQuantize(folder_ / "olmoe.gguf", folder_ / "b.gguf", options);
  const auto a = OpenModelFiles(folder_ / "a.gguf"), b = OpenModelFiles(folder_ / "b.gguf");
  const std::string name = "blk.1.ffn_up_exps.weight";
  EXPECT_EQ(NameOf(a->tensors.Find(name)->type), "q4_0");
  EXPECT_TRUE(std::ranges::equal(a->tensors.Bytes(*a->tensors.Find(name)),
                                 b->tensors.Bytes(*b->tensors.Find(name))));
}

// The estimate that everything rests on: each tensor alone in each type, predicted from one probe
// or two, against the divergence measured with a file in which that tensor alone has that type.
struct Ratios {
  double worst = 1;    ///< the greatest factor between the two
  double typical = 1;  ///< the geometric mean of the factors
};

Ratios PredictedOverMeasured(const fs::path& in, const TempFolder& folder) {
  const auto files = OpenModelFiles(in);
  const auto source = ReadQuantizeSource(*files);
  const auto base = MustOpen(in);
  const auto costs = MeasureTypeCosts(source->tensors, *base, Text(1), {}, {}, {});
  EXPECT_TRUE(costs) << costs.error().message;
  Ratios ratios;
  double logs = 0;
  int count = 0;
  for (size_t i = 0; costs && i < costs->size(); ++i) {
    const std::string& name = source->tensors[i].spec.name;
    for (const TypeOption& option : (*costs)[i]) {
      if (option.type != DType::kQ4_0 && option.type != DType::kQ5_1 && option.type != DType::kQ8_0)
        continue;
      // Back in float32, since the engine's rounding of inputs for quantised types is no weight's.
      const std::string type(NameOf(option.type));
      MustQuantize(in, folder / "one.gguf", {.type = "f32", .tensor_types = {{name, type}}});
      MustQuantize(folder / "one.gguf", folder / "one32.gguf", {.type = "f32"});
      const double log =
          std::log(DivergenceOfAll({&option, 1}) / DivergenceOf(folder / "one32.gguf", *base));
      ratios.worst = std::max(ratios.worst, std::exp(std::abs(log)));
      logs += std::abs(log);
      ++count;
    }
  }
  EXPECT_GE(count, 40);
  ratios.typical = std::exp(logs / count);
  std::printf("typical factor %.2f, worst %.2f, of %d\n", ratios.typical, ratios.worst, count);
  return ratios;
}

TEST_F(Quantize, CostsOfTypesAreThoseMeasuredOneByOne) {
  WriteRandomMixture(in_, {.experts = 1});  // No choice that errors could change.
  const Ratios ratios = PredictedOverMeasured(in_, folder_);
  EXPECT_LT(ratios.typical, 1.25);
  EXPECT_LT(ratios.worst, 2);
}

TEST_F(Quantize, CostsKnowThatErrorsChangeTheChoiceOfExperts) {
  const Ratios ratios = PredictedOverMeasured(in_, folder_);
  EXPECT_LT(ratios.typical, 2) << "more without the second probe";
}

// Where nearly all divergence is that of tokens that choose other experts, which grows with the
// size of errors: those of a layer's tensors add up by squares. Added as they are they come to 2.5
// times what all tensors together cost.
TEST_F(Quantize, ErrorsThatRerouteAddUpBySquares) {
  WriteRandomMixture(in_, {.layers = 8, .experts = 8, .even = true});
  const auto files = OpenModelFiles(in_);
  const auto source = ReadQuantizeSource(*files);
  const auto base = MustOpen(in_);
  const auto costs = MeasureTypeCosts(source->tensors, *base, Text(1), {}, {}, {});
  ASSERT_TRUE(costs) << costs.error().message;
  double logs = 0;
  for (const DType type : {DType::kQ4_0, DType::kQ5_0, DType::kQ8_0}) {
    std::vector<TypeOption> options;
    for (size_t i = 0; i < costs->size(); ++i)
      for (const TypeOption& option : (*costs)[i])
        if (option.type == type && IsQuantisable(source->tensors[i].spec))
          options.push_back(option);
    MustQuantize(in_, out_, {.type = "f32", .tensor_types = {{"*", std::string(NameOf(type))}}});
    MustQuantize(out_, folder_ / "back.gguf", {.type = "f32"});
    logs += std::log(DivergenceOfAll(options) / DivergenceOf(folder_ / "back.gguf", *base));
  }
  const double ratio = std::exp(logs / 3);
  std::printf("expected over measured %.2f\n", ratio);
  EXPECT_GT(ratio, 0.7);
  EXPECT_LT(ratio, 2.1);
}

TEST_F(Quantize, FitsTheSizeAndBeatsOneTypeOfThatSize) {
  const auto base = MustOpen(in_);
  MustQuantize(in_, out_, {.type = "q5_0", .tensor_types = {{"*", "q5_0"}}});
  const auto size = static_cast<int64_t>(fs::file_size(out_)) + 3000;  // for the table of choices
  const double plain = DivergenceOf(out_, *base);
  const QuantizeReport report =
      MustQuantize(in_, out_, {.size_bytes = size, .text = Text(1), .stacked = true});
  EXPECT_LE(static_cast<int64_t>(fs::file_size(out_)), size);
  EXPECT_GT(static_cast<int64_t>(fs::file_size(out_)), size * 9 / 10);
  EXPECT_LT(DivergenceOf(out_, *base), plain);
  EXPECT_EQ(TypesIn(out_).count("blk.0.ffn_up_exps.weight"), 1u);
  const auto files = OpenModelFiles(out_);
  const auto kept = files->metadata.Text("moxie.quantize.choices");
  ASSERT_TRUE(kept && *kept);
  for (const QuantizeReport::Choice& choice : report.choices) {
    EXPECT_THAT(**kept, HasSubstr(choice.tensor + " " + choice.type + " "));
    EXPECT_EQ(TypesIn(out_).at(choice.tensor), choice.type);
  }
}

TEST_F(Quantize, GivesExpertsThatAreUsedMoreBits) {
  const auto base = MustOpen(in_);
  const QuantizeOptions stacked = {.bits = 5.5, .text = Text(1), .stacked = true};
  QuantizeOptions separate = stacked;
  separate.stacked = false;
  MustQuantize(in_, out_, stacked);
  const double together = DivergenceOf(out_, *base);
  const QuantizeReport report = MustQuantize(in_, out_, separate);
  EXPECT_LT(DivergenceOf(out_, *base), together);
  const auto bytes = [&](int expert) {
    int64_t sum = 0;
    for (const QuantizeReport::Choice& choice : report.choices)
      if (choice.tensor.ends_with("." + std::to_string(expert) + ".weight")) sum += choice.bytes;
    return sum;
  };
  EXPECT_GT(bytes(0), bytes(3)) << "the router prefers low experts";
}

TEST_F(Quantize, ProbesOfAnEarlierRunAreNotMeasuredAgain) {
  const fs::path kept = folder_ / "probes.txt";
  const QuantizeOptions options = {.bits = 5.5, .text = Text(1), .probes = kept.string()};
  MustQuantize(in_, out_, options);

  // One that was broken off after the first layer goes on there.
  const std::string dear = "blk.1.attn_v.weight";
  std::string all, first, dearest, line;
  for (std::ifstream lines(kept); std::getline(lines, line); all += line + "\n") {
    if (!line.starts_with("blk.1.")) first += line + "\n";
    const std::string name = line.substr(0, line.find(' '));
    dearest += name + (name == dear ? " 1 0.001\n" : " 0 0\n");
  }
  ASSERT_NE(all, first);
  std::ofstream(kept) << first;
  MustQuantize(in_, out_, options);
  std::stringstream again;
  again << std::ifstream(kept).rdbuf();
  EXPECT_EQ(again.str(), all);

  // They are what decides: errors that cost nothing but in one tensor.
  std::ofstream(kept) << dearest;
  for (const QuantizeReport::Choice& choice : MustQuantize(in_, out_, options).choices)
    EXPECT_EQ(choice.type == "f32", choice.tensor == dear) << choice.tensor << " " << choice.type;

  const auto refused = [&](const std::string& text) {
    std::ofstream(kept) << text;
    const auto done = QuantizeModel(in_.string(), out_.string(), options);
    return done ? "nothing" : done.error().message;
  };
  EXPECT_THAT(refused("blk.9.attn_v.weight 1 0.1\n"), HasSubstr("is of another model"));
  EXPECT_THAT(refused(dear + " 1\n"), HasSubstr("is of another model")) << "a dense one";
  for (const char* broken : {"a\n", "a 1 2 3\n", "a -1\n", "a nan 1\n", "a 1 b\n", "a 1 2\n"})
    EXPECT_THAT(refused(broken), HasSubstr("line 1 must be")) << broken;
}

TEST_F(Quantize, ProbesOfAnotherRunAtTheSameTimeStay) {
  const fs::path kept = folder_ / "probes.txt";
  QuantizeOptions options = {.bits = 5.5, .text = Text(1), .probes = kept.string()};
  std::string others;
  bool written = false;
  options.progress = [&](double) {  // The embeddings are the first that is kept.
    if (!written && fs::exists(kept)) {
      std::ofstream(kept) << others;
      written = true;
    }
    return true;
  };
  for (const char* name : {"attn_k", "attn_output", "attn_q", "attn_v", "ffn_down_exps",
                           "ffn_gate_exps", "ffn_up_exps"})
    others += "blk.1." + std::string(name) + ".weight 0.25 0.125\n";
  MustQuantize(in_, out_, options);
  std::stringstream all;
  all << std::ifstream(kept).rdbuf();
  EXPECT_THAT(all.str(), HasSubstr("blk.0.attn_k.weight "));
  EXPECT_THAT(all.str(), HasSubstr(others)) << "nor measured again";

  fs::remove(kept);
  written = false;
  others = "blk.9.attn_v.weight 1 0.1\n";
  const auto done = QuantizeModel(in_.string(), out_.string(), options);
  ASSERT_FALSE(done);
  EXPECT_THAT(done.error().message, HasSubstr("is of another model"));
  std::stringstream held;
  held << std::ifstream(kept).rdbuf();
  EXPECT_EQ(held.str(), others) << "another model's are not replaced";
}

// perplexity --against, by its formula from the logits of both models.
TEST_F(Quantize, DivergenceIsTheMeanOverTheSecondHalvesOfWindows) {
  MustQuantize(in_, out_, {.type = "q4_0"});
  const auto base = MustOpen(in_), model = MustOpen(out_);
  constexpr int64_t kWindow = 64;
  const auto measured =
      MeasurePerplexity(*model, Text(3), {.window = kWindow, .chunks = 2}, {}, base.get());
  ASSERT_TRUE(measured && measured->divergence);
  std::vector<TokenId> ids = base->tokenizer().Encode(Text(3), {.parse_special = false});
  double sum = 0, same = 0;
  for (int64_t w = 0; w < 2; ++w) {
    std::vector<TokenId> window(ids.begin() + w * kWindow, ids.begin() + (w + 1) * kWindow);
    window[0] = *base->tokenizer().bos();
    const auto vocab = static_cast<size_t>(base->vocab_size());
    const auto logits = [&](Model& m) {
      std::vector<double> all;
      EXPECT_TRUE(ComputeLogits(m, window, [&](int64_t, std::span<const float> rows) {
        all.insert(all.end(), rows.begin(), rows.end());
        return Result<void>();
      }));
      return all;
    };
    const std::vector<double> p = logits(*base), q = logits(*model);
    for (size_t t = kWindow / 2; t + 1 < kWindow; ++t) {
      const auto row = [&](const std::vector<double>& all) {
        return std::vector<double>(all.begin() + static_cast<std::ptrdiff_t>(t * vocab),
                                   all.begin() + static_cast<std::ptrdiff_t>((t + 1) * vocab));
      };
      const std::vector<double> x = row(p), y = row(q);
      double x_sum = 0, y_sum = 0;
      for (size_t i = 0; i < vocab; ++i) {
        x_sum += std::exp(x[i]);
        y_sum += std::exp(y[i]);
      }
      for (size_t i = 0; i < vocab; ++i)
        sum += std::exp(x[i]) / x_sum * std::log(std::exp(x[i]) / x_sum * y_sum / std::exp(y[i]));
      same += std::ranges::max_element(x) - x.begin() == std::ranges::max_element(y) - y.begin();
    }
  }
  const auto count = static_cast<double>(measured->tokens);
  EXPECT_EQ(measured->tokens, 2 * (kWindow / 2 - 1));
  EXPECT_NEAR(measured->divergence->mean, sum / count, 1e-9);
  EXPECT_NEAR(measured->divergence->same_choice, same / count, 1e-12);
}

TEST_F(Quantize, RefusesASizeThatNoTypesReach) {
  const auto done =
      QuantizeModel(in_.string(), out_.string(), {.size_bytes = 60000, .text = Text(1)});
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, ErrorCode::kInvalidInput);
  EXPECT_THAT(done.error().message, HasSubstr("in the smallest types they take"));
  EXPECT_FALSE(fs::exists(out_));
}

TEST_F(Quantize, LeavesNothingWhenStopped) {
  QuantizeOptions options = {.type = "q4_0"};
  options.progress = [](double) { return false; };
  const auto done = QuantizeModel(in_.string(), out_.string(), options);
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, ErrorCode::kCancelled);
  for (const auto& entry : fs::directory_iterator(folder_.path())) EXPECT_EQ(entry.path(), in_);
}

}  // namespace
}  // namespace moxie
