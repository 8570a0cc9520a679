#include "model/catalogue.h"

#include <gtest/gtest.h>

#include <map>
#include <string>

#include "model/describe.h"
#include "model/outline.h"

namespace moxie {
namespace {

/// What papers and model cards say, in billions, to the digits that they give.
struct Published {
  double total, active;  // 0: not published.
  double slack;          // Half of the last digit given.
};

const std::map<std::string_view, Published> kPublished = {
    {"mixtral-8x7b", {46.70, 12.88, 0.005}},  // arXiv:2401.04088: 47B and 13B; the files: 46.70.
    {"mixtral-8x22b", {140.6, 39.2, 0.06}},   // mistral.ai/news/mixtral-8x22b: 141B and 39B.
    {"mistral-7b", {7.24, 0, 0.005}},
    {"llama-2-7b", {6.74, 0, 0.005}},
    {"llama-2-13b", {13.02, 0, 0.005}},
    {"llama-2-70b", {68.98, 0, 0.005}},
    {"llama-3-8b", {8.03, 0, 0.005}},
    {"llama-3-70b", {70.55, 0, 0.005}},
    {"llama-3.1-8b", {8.03, 0, 0.005}},
    {"llama-3.1-70b", {70.55, 0, 0.005}},
    {"grok-1", {315.7, 83.8, 0.5}},          // "314B"; the checkpoint's shapes give 315.7.
    {"qwen2-57b-a14b", {57.41, 14.2, 0.1}},  // arXiv:2407.10671: 57B, 14B active.
    {"qwen3-30b-a3b", {30.5, 3.3, 0.06}},    // Model card: 30.5B, 3.3B activated.
    {"olmoe-1b-7b", {6.92, 1.28, 0.005}},    // arXiv:2409.02060, table 2: 6.9B and 1.3B.
    {"gpt-oss-20b", {20.91, 3.61, 0.006}},   // arXiv:2508.10925, table 1, active: see below.
    {"gpt-oss-120b", {116.83, 5.13, 0.006}},
    {"deepseek-v3", {671.0, 36.6, 0.1}},  // README_WEIGHTS.md: 671B, 36.6B active.
    // GLaM's table leaves the embedding out; Switch's sizes are rounded to billions.
    {"glam-0.1b-64e", {1.9, 0, 0.05}},
    {"glam-1.7b-64e", {27, 0, 0.5}},
    {"glam-8b-64e", {143, 9.8, 0.5}},
    {"glam-64b-64e", {1160, 96.6, 50}},  // 1.2T
    {"switch-base-128", {7.4, 0, 0.1}},
    {"switch-large-128", {26.3, 0, 1}},
    {"switch-xxl-128", {395, 0, 5}},
    {"switch-c-2048", {1571, 0, 3}},
    {"smollm2-135m", {0.1345, 0, 0.00005}},
    {"smollm2-360m", {0.3618, 0, 0.00005}},
    {"smollm2-1.7b", {1.711, 0, 0.0005}},
};

TEST(Catalogue, CountsThePublishedParameters) {
  for (const CatalogueModel& model : Catalogue()) {
    SCOPED_TRACE(model.name);
    const auto published = kPublished.find(model.name);
    ASSERT_NE(published, kPublished.end());
    const ParameterCount count = CountParameters(model.config);
    const bool glam = model.name.starts_with("glam");
    const int64_t rows = model.config.vocab_size * model.config.dim;
    EXPECT_NEAR(static_cast<double>(count.total - (glam ? rows : 0)) / 1e9, published->second.total,
                published->second.slack);
    // These count a model's embedding as inactive, since a token reads one row of it.
    const bool without_embedding =
        model.name.starts_with("gpt-oss") || glam || model.name.starts_with("deepseek");
    const int64_t embedding = model.config.vocab_size * model.config.dim;
    const int64_t active = count.active - (without_embedding ? embedding : 0);
    if (published->second.active > 0) {
      EXPECT_NEAR(static_cast<double>(active) / 1e9, published->second.active,
                  published->second.slack);
    }
  }
}

TEST(Catalogue, OutlineHasEveryParameter) {
  for (const CatalogueModel& model : Catalogue()) {
    SCOPED_TRACE(model.name);
    const ModelWeights weights =
        OutlineWeights(model.config, [](std::string_view, int64_t) { return DType::kI8; });
    const WeightBytes bytes = CountBytes(model.config, weights);
    // A byte for each element of a matrix and four for each of a vector.
    const int64_t elements = bytes.matrices + bytes.experts + bytes.vectors / 4;
    EXPECT_EQ(elements, CountParameters(model.config).total);
  }
}

TEST(Catalogue, FindsNamesInAnyCase) {
  EXPECT_TRUE(FindInCatalogue("Mixtral-8x7B"));
  EXPECT_FALSE(FindInCatalogue("mixtral"));
}

}  // namespace
}  // namespace moxie
