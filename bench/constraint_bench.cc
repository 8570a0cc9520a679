// Token masks over a vocabulary of 128,000 tokens: what the first mask of each kind of place costs,
// and what a step of an answer costs (mask, choice under it, and taking the token).
//
//   constraint_bench

#include <benchmark/benchmark.h>

#include <random>
#include <set>
#include <string>
#include <vector>

#include "moxie/constraint.h"
#include "sampling/sampler.h"
#include "support/fake_tokenizer.h"

namespace moxie {
namespace {

constexpr size_t kPieces = 127'744;  // With the 256 bytes, 128,000.

/// Made-up words with the make-up of large vocabularies: a third not ASCII, some with punctuation.
const testing::FakeTokenizer& Vocabulary() {
  static const testing::FakeTokenizer tokenizer([] {
    std::mt19937 random(1);
    const std::string letters = "eeeettaoinshrdlucmfwypvbgk";
    const std::string marks = "\"{}[]:,. -_()/\\'0123456789\n";
    std::set<std::string> pieces;
    while (pieces.size() < kPieces) {
      const auto kind = random() % 6;
      std::string piece = random() % 2 == 0 ? " " : "";
      const size_t length = 1 + random() % 9;
      for (size_t i = 0; i < length; ++i) {
        if (kind < 2) {
          const auto point = 0x400 + random() % 0x80;
          piece += static_cast<char>(0xC0 | point >> 6);
          piece += static_cast<char>(0x80 | (point & 0x3F));
        } else if (kind == 2 && random() % 2 == 0) {
          piece += marks[random() % marks.size()];
        } else {
          piece += letters[random() % letters.size()];
        }
      }
      if (piece.size() > 1) pieces.insert(piece);
    }
    return std::vector<std::string>(pieces.begin(), pieces.end());
  }());
  return tokenizer;
}

const ConstraintCompiler& Compiler() {
  static const ConstraintCompiler compiler(Vocabulary());
  return compiler;
}

constexpr char kSchema[] =
    R"({"type":"object","properties":{"name":{"type":"string"},"short":{"type":"string","maxLength":)"
    R"(200},"tags":{"type":"array","items":{"enum":["a","b"]}},"size":{"type":"number"}},"required":)"
    R"(["name","short","tags","size"],"additionalProperties":false})";

ConstraintState At(const ConstraintPtr& constraint, std::string_view text) {
  ConstraintState state(constraint);
  for (const char c : text) MOXIE_CHECK(state.Advance(static_cast<uint8_t>(c)));
  return state;
}

/// The first mask at a place, with nothing known before.
void ColdMask(benchmark::State& bench, const char* text) {
  MOXIE_CHECK(Compiler().JsonSchema(kSchema).has_value());  // Builds the trie.
  for (auto _ : bench) {
    bench.PauseTiming();
    ConstraintState state = At(*Compiler().JsonSchema(kSchema), text);
    bench.ResumeTiming();
    benchmark::DoNotOptimize(state.Mask()->data());
  }
}
BENCHMARK_CAPTURE(ColdMask, key, "{")->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(ColdMask, string, "{\"name\": \"ab")->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(ColdMask, bounded_string, "{\"name\": \"\", \"short\": \"ab")
    ->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(ColdMask, number, "{\"name\": \"\", \"short\": \"\", \"tags\": [], \"size\": 1")
    ->Unit(benchmark::kMicrosecond);

/// One token of an answer with masks that are known: `constrained` or not, greedy.
void Step(benchmark::State& bench, bool constrained) {
  const auto constraint = *Compiler().JsonSchema(kSchema);
  auto sampler =
      *Sampler::Create({.temperature = 0, .logit_bias = {}}, Vocabulary().vocab_size(), {});
  std::mt19937 random(2);
  std::vector<float> logits(static_cast<size_t>(Vocabulary().vocab_size()));
  for (float& logit : logits) logit = static_cast<float>(random() % 1000) / 100.0F;
  ConstraintState state = At(constraint, "{\"name\": \"");
  for (auto _ : bench) {
    if (constrained) {
      const auto mask = state.Mask();
      benchmark::DoNotOptimize(sampler.Sample(logits, *mask));
      MOXIE_CHECK(state.Advance('e'));
    } else {
      benchmark::DoNotOptimize(sampler.Sample(logits));
    }
  }
}
BENCHMARK_CAPTURE(Step, free, false)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(Step, constrained, true)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace moxie

BENCHMARK_MAIN();
