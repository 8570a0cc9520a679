#include "convert/probe_file.h"

#include <gtest/gtest.h>

#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "support/temp_folder.h"

namespace moxie {
namespace {

using moxie::testing::TempFolder;

Result<void> AcceptAll(const ProbeResults&) { return {}; }

TEST(ProbeFile, RunsAtTheSameTimeKeepEachOthersProbes) {
  constexpr int kRuns = 4, kLayers = 12;
  const TempFolder folder;
  const auto path = folder / "probes.txt";
  std::vector<std::thread> runs;
  for (int run = 0; run < kRuns; ++run) {
    runs.emplace_back([&, run] {
      ProbeResults results;
      for (int layer = 0; layer < kLayers; ++layer) {
        results["run." + std::to_string(run) + "." + std::to_string(layer)] = {.divergence = 1.5};
        ASSERT_TRUE(MergeProbes(results, path, AcceptAll));
      }
    });
  }
  for (std::thread& run : runs) run.join();
  const auto all = ReadProbes(path);
  ASSERT_TRUE(all);
  EXPECT_EQ(all->size(), size_t{kRuns * kLayers});
}

TEST(ProbeFile, OwnProbesWinAndOthersAreTakenOver) {
  const TempFolder folder;
  const auto path = folder / "probes.txt";
  ProbeResults others = {{"a", {.divergence = 1}}, {"b", {.divergence = 2, .root_share = 0.5}}};
  ASSERT_TRUE(MergeProbes(others, path, AcceptAll));
  ProbeResults own = {{"a", {.divergence = 3}}};
  ASSERT_TRUE(MergeProbes(own, path, AcceptAll));
  EXPECT_EQ(own.at("b").root_share, 0.5);
  const auto all = ReadProbes(path);
  ASSERT_TRUE(all);
  EXPECT_EQ(all->at("a").divergence, 3);
  EXPECT_EQ(all->at("b").divergence, 2);
}

TEST(ProbeFile, LeavesAFileThatIsNotItsOwn) {
  const TempFolder folder;
  const auto path = folder / "probes.txt";
  std::ofstream(path) << "no probes\n";
  ProbeResults own = {{"a", {.divergence = 3}}};
  const auto done = MergeProbes(own, path, AcceptAll);
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, ErrorCode::kInvalidInput);
  std::string held;
  std::getline(std::ifstream(path), held);
  EXPECT_EQ(held, "no probes");
}

}  // namespace
}  // namespace moxie
