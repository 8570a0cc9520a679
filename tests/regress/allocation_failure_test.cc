// Memory that the system refuses while a model is opened is an error and no
// crash.
#include <gtest/gtest.h>

#include "moxie/generate.h"
#include "support/allocation_count.h"
#include "support/source_dir.h"

namespace moxie {
namespace {

TEST(AllocationFailure, OpeningSaysSo) {
  const std::string path = SourceDir() / "tests/golden/models/mixtral";
  ModelOptions options;
  options.context = 1024;
  options.threads = 1;
  const int64_t begin = testing::large_allocation_count.load();
  ASSERT_TRUE(Model::Open(path, options));
  const int64_t count = testing::large_allocation_count.load() - begin;
  int refused = 0;
  for (int64_t nth = 0; nth < count; ++nth) {
    testing::failing_allocation = testing::large_allocation_count.load() + nth;
    const auto model = Model::Open(path, options);
    testing::failing_allocation = -1;
    if (model) continue;  // What failed could be done without.
    ++refused;
    EXPECT_EQ(model.error().code, ErrorCode::kOverBudget) << nth << ": " << model.error().message;
  }
  EXPECT_GT(refused, 5);
  EXPECT_TRUE(Model::Open(path, options));
}

}  // namespace
}  // namespace moxie
