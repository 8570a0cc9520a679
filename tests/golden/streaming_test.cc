// What a process that reads its experts from disk keeps doing for as long as it runs: it takes no
// memory, reads each expert once a pass, and says what went wrong.
#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <numeric>
#include <random>

#include "core/process_memory.h"
#include "memory/resident_weights.h"
#include "moxie/convert.h"
#include "moxie/generate.h"
#include "moxie/plan.h"
#include "support/allocation_count.h"
#include "support/golden.h"
#include "support/source_dir.h"
#include "support/temp_folder.h"

namespace moxie {
namespace {

using namespace moxie::testing;

class Streaming : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::optional<std::filesystem::path> shared = SharedDir();
    if (!shared) GTEST_SKIP() << "no reference models here";
    auto loaded = LoadModel(*shared / "golden" / "mixtral-f32");
    ASSERT_TRUE(loaded) << loaded.error().message;
    model_ = std::move(*loaded);
  }

  /// Decodes tokens one at a time; false after an error.
  bool Decode(Runner& runner, SequenceId sequence, int tokens) {
    logits_.resize(static_cast<size_t>(runner.vocab));
    for (int i = 0; i < tokens; ++i) {
      const auto id = static_cast<int32_t>(random_() % static_cast<uint32_t>(runner.vocab));
      const SequenceChunk chunk{sequence, {&id, 1}, LogitRows::kLast};
      if (!runner.decoder->Forward({&chunk, 1}, *runner.cache, logits_)) return false;
    }
    return true;
  }

  std::unique_ptr<LoadedModel> model_;
  std::vector<float> logits_;
  std::mt19937 random_{1};
};

TEST_F(Streaming, ATokenAllocatesNothing) {
  Runner runner(*model_, {.kernels = &BatchInvariant(BestKernelSet()), .expert_slots = 3});
  const SequenceId sequence = runner.NewSequence();
  ASSERT_TRUE(Decode(runner, sequence, 1));
  const int64_t misses = runner.store->traffic().misses;
  const int64_t before = AllocationCount();
  const bool good = Decode(runner, sequence, 100);
  EXPECT_EQ(AllocationCount() - before, 0);
  EXPECT_TRUE(good);
  EXPECT_GT(runner.store->traffic().misses, misses);
}

TEST_F(Streaming, TenThousandTokensTakeNoMoreMemoryThanTheFirst) {
  Runner runner(*model_, {.kernels = &BatchInvariant(BestKernelSet()), .expert_slots = 3});
  const auto thousand = [&] {
    const SequenceId sequence = runner.NewSequence();
    const bool good = Decode(runner, sequence, 1000);
    runner.cache->FreeSequence(sequence);
    return good;
  };
  ASSERT_TRUE(thousand());
  const int64_t before = HeapBytes();
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(thousand());
  EXPECT_LE(HeapBytes(), before);
}

/// A prompt of any length that is one batch reads what it needs of each expert once, through a
/// cache of two.
TEST_F(Streaming, APromptReadsEachExpertOnce) {
  Runner runner(*model_,
                {.kernels = &BatchInvariant(BestKernelSet()), .expert_slots = kLeastExpertSlots});
  std::vector<int32_t> ids(200);
  for (int32_t& id : ids)
    id = static_cast<int32_t>(random_() % static_cast<uint32_t>(runner.vocab));
  std::vector<float> logits(static_cast<size_t>(runner.vocab));
  const SequenceChunk chunk{runner.NewSequence(), std::span(ids).first(128), LogitRows::kLast};
  const SequenceChunk other{runner.NewSequence(), std::span(ids).subspan(128), LogitRows::kNone};
  const SequenceChunk chunks[] = {chunk, other};
  ASSERT_TRUE(runner.decoder->Forward(chunks, *runner.cache, logits));
  const ExpertTraffic traffic = runner.store->traffic();
  EXPECT_EQ(traffic.hits, 0);
  EXPECT_EQ(traffic.misses, StreamedExperts(model_->weights));  // 200 tokens reach all of them.
  EXPECT_LE(traffic.bytes_read, traffic.misses * ExpertSlotBytes(model_->weights));
}

/// Blocks of a pass are computed as passes of their own are, but share what is read.
TEST_F(Streaming, APassOfManyBlocksReadsEachExpertOnceAndComputesWhatPassesWould) {
  for (const int64_t block : {1, 48, 100}) {
    Runner resident(*model_, {.kernels = &BatchInvariant(BestKernelSet())});
    Runner streamed(*model_, {.kernels = &BatchInvariant(BestKernelSet()),
                              .expert_slots = kLeastExpertSlots,
                              .block_tokens = block});
    std::vector<int32_t> ids(128);
    for (int32_t& id : ids)
      id = static_cast<int32_t>(random_() % static_cast<uint32_t>(streamed.vocab));
    const std::array<size_t, 1> sizes{static_cast<size_t>(block)};
    const std::vector<float> want = resident.RunInChunks(ids, sizes);
    EXPECT_EQ(streamed.Run(streamed.NewSequence(), ids), want);
    EXPECT_EQ(streamed.store->traffic().misses, StreamedExperts(model_->weights));
    // Chunks of two sequences, one of them across the border of two blocks.
    const SequenceChunk chunks[] = {
        {streamed.NewSequence(), std::span(ids).first(30), LogitRows::kLast},
        {streamed.NewSequence(), ids, LogitRows::kLast}};
    std::vector<float> logits(static_cast<size_t>(2 * streamed.vocab));
    ASSERT_TRUE(streamed.decoder->Forward(chunks, *streamed.cache, logits));
    EXPECT_LT(Distance(std::span(logits).last(static_cast<size_t>(streamed.vocab)),
                       std::span(want).last(static_cast<size_t>(streamed.vocab))),
              1e-4f * Largest(want));
    EXPECT_EQ(streamed.store->traffic().misses, 2 * StreamedExperts(model_->weights));
  }
}

/// Whatever the disk does, a token is right or there is an error, after which it can be had again.
TEST_F(Streaming, AFailingDiskGivesErrorsAndNeverAWrongToken) {
  std::vector<int32_t> ids(80);
  for (int32_t& id : ids)
    id = static_cast<int32_t>(random_() % static_cast<uint32_t>(model_->config.vocab_size));
  Runner resident(*model_, {.kernels = &BatchInvariant(BestKernelSet())});
  const std::vector<float> want = resident.RunInChunks(ids, std::array<size_t, 1>{1});
  const auto vocab = static_cast<size_t>(resident.vocab);
  struct Case {
    Faults faults;
    bool fails;
  };
  for (Case test : {Case{{.first = 40, .every = 7, .result = -EIO}, true},
                    Case{{.first = 3, .every = 2, .result = -EINTR}, false},
                    Case{{.first = 1, .every = 3, .shorten_to = 600}, false},
                    Case{{.first = 9, .count = 1, .refusal = -EPERM}, false},
                    Case{{.first = 31, .result = -EPERM, .only = "io_uring"}, false}}) {
    Runner streamed(
        *model_,
        {.kernels = &BatchInvariant(BestKernelSet()), .expert_slots = 3, .faults = &test.faults});
    const SequenceId sequence = streamed.NewSequence();
    int errors = 0;
    std::vector<float> logits(vocab);
    for (size_t i = 0; i < ids.size() && errors < 1000; ++i) {
      const SequenceChunk chunk{sequence, std::span(ids).subspan(i, 1), LogitRows::kLast};
      const auto done = streamed.decoder->Forward({&chunk, 1}, *streamed.cache, logits);
      if (done) {
        ASSERT_TRUE(std::ranges::equal(logits, std::span(want).subspan(i * vocab, vocab))) << i;
        continue;
      }
      ++errors;
      EXPECT_EQ(done.error().code, ErrorCode::kIo);
      EXPECT_NE(done.error().message.find(".safetensors: cannot be read: "), std::string::npos)
          << done.error().message;
      --i;  // Again.
    }
    EXPECT_EQ(errors > 0, test.fails) << test.faults.result;
    EXPECT_GT(test.faults.injected, 0);
  }
}

/// What a store gives of one Begin: expert ids in their order, and the error that ended it.
struct Given {
  std::vector<int32_t> experts;
  std::optional<Error> error;
};

/// Also compares every expert with the mapped file.
Given TakeAll(Runner& runner, const LoadedModel& model, int64_t layer) {
  const auto& experts = model.weights.layers[static_cast<size_t>(layer)].experts;
  Given given;
  std::vector<int32_t> ids(experts.size());
  std::iota(ids.begin(), ids.end(), 0);
  EXPECT_TRUE(runner.store->Begin(layer, ids));
  for (;;) {
    const auto ready = runner.store->Next();
    const Result<void> complete = ready ? runner.store->Complete() : Result<void>();
    if (!ready || !complete) {
      given.error = ready ? complete.error() : ready.error();
      return given;
    }
    if (ready->empty()) return given;
    for (const ExpertStore::Ready& expert : *ready) {
      given.experts.push_back(expert.expert);
      const FeedForwardWeights& stored = experts[static_cast<size_t>(expert.expert)];
      const auto same = [](const WeightMatrix& got, const WeightMatrix& want) {
        return std::memcmp(got.data, want.data, static_cast<size_t>(want.bytes())) == 0;
      };
      EXPECT_TRUE(same(expert.view.gate, stored.gate.matrix));
      EXPECT_TRUE(same(expert.view.up, stored.up.matrix));
      EXPECT_TRUE(same(expert.view.down, stored.down.matrix));
    }
  }
}

/// Asking on after an error must not end as if all experts had been given.
TEST_F(Streaming, AnErrorStaysUntilTheNextBegin) {
  const auto experts = static_cast<int64_t>(model_->weights.layers[0].experts.size());
  for (const int64_t slots : {kLeastExpertSlots, experts, 3 * experts}) {
    for (int block = 0; block < 3 * experts; ++block) {
      Faults faults{.first = block, .count = 1, .result = -EIO};
      Runner runner(*model_, {.expert_slots = slots, .faults = &faults});
      const Given given = TakeAll(runner, *model_, 0);
      ASSERT_TRUE(given.error) << slots << " " << block;
      EXPECT_LT(std::ssize(given.experts), experts);
      const std::string message = given.error->message;
      EXPECT_NE(message.find(".safetensors: cannot be read: "), std::string::npos) << message;
      for (int again = 0; again < 3; ++again) {
        const auto ready = runner.store->Next();
        const auto complete = runner.store->Complete();
        ASSERT_FALSE(ready) << slots << " " << block;
        ASSERT_FALSE(complete) << slots << " " << block;
        EXPECT_EQ(ready.error().message, message);
        EXPECT_EQ(complete.error().message, message);
      }
      for (const int64_t layer : {0, 1}) {
        Given whole = TakeAll(runner, *model_, layer);
        EXPECT_FALSE(whole.error) << whole.error->message;
        std::ranges::sort(whole.experts);
        EXPECT_EQ(std::ssize(whole.experts), experts);
        EXPECT_TRUE(std::ranges::adjacent_find(whole.experts) == whole.experts.end());
      }
    }
  }
}

/// A disk whose late answers are errors leaves reads of one failed Begin after another behind.
TEST_F(Streaming, ReadsThatFailedBeginsLeftBehindAreWaitedFor) {
  const auto experts = static_cast<int64_t>(model_->weights.layers[0].experts.size());
  const auto layers = std::ssize(model_->weights.layers);
  Faults faults{.count = 9, .result = -EIO, .newest_first = true};
  Runner runner(*model_, {.expert_slots = layers * experts, .faults = &faults});
  int errors = 0;
  for (int64_t layer = 0; layer < layers; ++layer)
    errors += TakeAll(runner, *model_, layer).error ? 1 : 0;
  EXPECT_GT(runner.reader->pending(), 0);
  EXPECT_GE(errors, 2);
  for (int64_t layer = 0; layer < layers; ++layer) {
    const Given given = TakeAll(runner, *model_, layer);
    EXPECT_FALSE(given.error) << given.error->message;
    EXPECT_EQ(std::ssize(given.experts), experts);
  }
}

TEST_F(Streaming, AFileCutShortIsAnError) {
  TempFolder folder;
  std::filesystem::copy(*SharedDir() / "golden" / "mixtral-f32", folder / "model",
                        std::filesystem::copy_options::recursive);
  auto copy = LoadModel(folder / "model");
  ASSERT_TRUE(copy) << copy.error().message;
  model_ = std::move(*copy);
  Runner runner(*model_, {.kernels = &BatchInvariant(BestKernelSet()), .expert_slots = 3});
  // As the engine does: all but the experts is read, and the mapping is not touched again.
  auto reader = FileReader::Create(model_->files.tensors.files(), {});
  ASSERT_TRUE(reader) << reader.error().message;
  constexpr auto kPart = ResidentPart::kAllButExperts;
  const ResidentRanges ranges(model_->weights, model_->files.tensors, kPart);
  const auto memory = PlaceResident(model_->weights, model_->files.tensors, ranges, kPart);
  ASSERT_TRUE(memory) << memory.error().message;
  ASSERT_TRUE(ReadResident(ranges, *memory, **reader, 1, [](const LoadedBytes&) { return true; }));
  const SequenceId sequence = runner.NewSequence();
  ASSERT_TRUE(Decode(runner, sequence, 5));
  for (const MappedFile& file : model_->files.tensors.files())
    std::filesystem::resize_file(file.path(), 4096);
  EXPECT_FALSE(Decode(runner, sequence, 100));
  // Loading again does not touch the mapping either.
  const auto again = LoadWeights(model_->files, model_->config);
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code, ErrorCode::kIo);
  EXPECT_NE(again.error().message.find("model.safetensors: ends at byte "), std::string::npos)
      << again.error().message;
}

constexpr int64_t kShortText = 15;  ///< that a std::string holds without memory of its own

/// From the second token of an answer on, whatever an engine does for one, but for texts that are
/// long: its pass, choosing, counting. Of a model in memory and of one with experts on disk.
TEST(Answering, ATokenAllocatesNothing) {
  TempFolder folder;
  const std::string path = folder / "mixture.gguf";
  ASSERT_TRUE(Upcycle(SourceDir() / "tests/golden/models/qwen3", path,
                      {.experts = 256, .used = 2, .noise = 0.5}));
  ModelOptions options;
  options.threads = 2;
  options.context = 4096;
  for (const bool streamed : {false, true}) {
    if (streamed) {
      const auto plans = PlanModel(path, {""}, options);
      ASSERT_TRUE(plans) << plans.error().message;
      options.memory_bytes = (plans->front().least_bytes + plans->front().all_bytes) / 2;
    }
    const auto model = Model::Open(path, options);
    ASSERT_TRUE(model) << model.error().message;
    ASSERT_EQ((*model)->streams_experts(), streamed);
    Engine engine(**model);
    Request request;
    request.prompt = {1, 2, 3};
    request.max_tokens = 4000;
    request.end_at_stop_tokens = false;
    request.sampling.top_p = 0.9F;
    int tokens = 0;
    int64_t before = 0, during = 0, most_text = 0;
    const auto answer = engine.Run(std::move(request), [&](const Event& event) {
      const int64_t now = AllocationCount();
      const auto text = std::ssize(event.text);
      if (tokens > 1 && text <= kShortText) during += now - before;
      if (event.token >= 0) ++tokens;
      most_text = std::max<int64_t>(most_text, text);
      before = AllocationCount();
      return true;
    });
    ASSERT_TRUE(answer) << answer.error().message;
    EXPECT_EQ(tokens, 4000);
    EXPECT_EQ(during, 0) << most_text;
  }
}

}  // namespace
}  // namespace moxie
