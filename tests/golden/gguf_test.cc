// The golden models as GGUF (tests/golden/make_gguf.py) give what their folders give.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "support/golden.h"
#include "support/source_dir.h"

namespace moxie {
namespace {

using namespace moxie::testing;

const std::filesystem::path kGolden = SourceDir() / "tests/golden";

std::vector<std::string> GgufNames() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(kGolden / "gguf")) {
    names.push_back(entry.path().stem().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

class GgufLogits : public ::testing::TestWithParam<std::string> {};

TEST_P(GgufLogits, AreThoseOfTheFolder) {
  const std::string name = GetParam();
  const auto model = LoadModel(kGolden / "gguf" / (name + ".gguf"));
  ASSERT_TRUE(model) << model.error().message;
  const Golden golden = ReadGolden(kGolden / "models" / name.substr(0, name.find('.')));
  Runner runner(**model, {});
  ASSERT_NE(runner.decoder, nullptr);
  for (const GoldenSequence& want : golden.sequences) {
    SCOPED_TRACE(want.name);
    const SequenceId sequence = runner.NewSequence();
    const auto logits = runner.Run(sequence, want.ids, {});
    runner.cache->FreeSequence(sequence);
    EXPECT_LE(Distance(logits, want.logits.values), 2e-4f * Largest(want.logits.values));
  }
  EXPECT_EQ(runner.Greedy(golden.prompt, golden.greedy.size()), golden.greedy);
}

INSTANTIATE_TEST_SUITE_P(Models, GgufLogits, ::testing::ValuesIn(GgufNames()),
                         [](const auto& test) {
                           std::string name = test.param;
                           for (char& c : name) {
                             if (c == '-' || c == '.') c = '_';
                           }
                           return name;
                         });

}  // namespace
}  // namespace moxie
