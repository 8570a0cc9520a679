#include "model/mix.h"

#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <sstream>
#include <string>

#include "support/source_dir.h"

namespace moxie {
namespace {

struct Case {
  std::string model, mix, importance;
  bool operator<(const Case& o) const {
    return std::tie(model, mix, importance) < std::tie(o.model, o.mix, o.importance);
  }
};

/// tests/golden/mixes.txt: what llama-quantize chose (make_mixes.py).
std::map<Case, std::map<std::string, std::vector<std::string>>> ReadChoices() {
  std::map<Case, std::map<std::string, std::vector<std::string>>> cases;
  std::ifstream file(SourceDir() / "tests/golden/mixes.txt");
  std::string line;
  while (std::getline(file, line)) {
    std::istringstream words(line);
    Case key;
    std::string role, types, type;
    words >> key.model >> key.mix >> key.importance >> role >> types;
    std::istringstream list(types);
    while (std::getline(list, type, ',')) cases[key][role].push_back(type);
  }
  return cases;
}

TEST(Mix, ChoosesWhatLlamaQuantizeDoes) {
  const auto cases = ReadChoices();
  ASSERT_EQ(cases.size(), 120u);
  for (const auto& [key, roles] : cases) {
    const bool mixture = key.model == "mixture";
    const int64_t width = key.model == "narrow" ? 96 : 256;
    std::vector<TensorSpec> specs;
    std::vector<std::string> wanted;
    for (const auto& [role, types] : roles) {
      for (size_t i = 0; i < types.size(); ++i) {
        TensorSpec spec{role, DType::kF16, {width, width}};
        if (const size_t number = role.find('#'); number != role.npos)
          spec.name.replace(number, 1, std::to_string(i));
        if (role.find("_exps") != role.npos) spec.shape = {8, width, width};
        specs.push_back(spec);
        wanted.push_back(types[i]);
      }
    }
    const MixModel model{.layers = mixture                ? 16
                                   : key.model == "dense" ? 24
                                                          : 8,
                         .experts = mixture ? 8 : 0,
                         .queries_per_key = key.model == "dense" ? 4 : 2,
                         .has_importance = key.importance == "1"};
    const Mix* mix = FindMix(key.mix);
    ASSERT_NE(mix, nullptr) << key.mix;
    const std::vector<DType> types = ChooseTypes(*mix, model, specs);
    for (size_t i = 0; i < specs.size(); ++i)
      EXPECT_EQ(NameOf(types[i]), wanted[i])
          << key.model << " " << key.mix << " " << key.importance << " " << specs[i].name;
  }
}

TEST(Mix, KnowsNamesInAnyCaseAndAliases) {
  EXPECT_EQ(FindMix("Q4_K_M"), FindMix("q4_k"));
  EXPECT_EQ(FindMix("q4_k_x"), nullptr);
}

}  // namespace
}  // namespace moxie
