// The kernels alone, on this machine: GB/s and GOP/s (a multiplication and an addition are two),
// beside the machine's own bandwidth and peak, measured here in the same run.
//
//   kernels_bench --benchmark_filter='avx2/q4_0' --benchmark_repetitions=5

#include <benchmark/benchmark.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "core/half.h"
#include "core/page_buffer.h"
#include "core/thread_pool.h"
#include "kernels/kernel_set.h"

namespace moxie {
namespace {

constexpr int64_t kCols = 2048;
constexpr int64_t kTaskRows = 96;                        // As in the engine.
constexpr int64_t kElementsInMemory = int64_t{1} << 28;  // Far more than the last cache holds.

double Giga(int64_t count) { return static_cast<double>(count) * 1e-9; }

benchmark::Counter Rate(double giga_an_iteration) {
  return {giga_an_iteration, benchmark::Counter::kIsIterationInvariantRate};
}

// ---- what the machine can do --------------------------------------------------------------------

void MemoryBandwidth(benchmark::State& state) {
  ThreadPool pool(static_cast<int>(state.range(0)));
  const size_t words = size_t{1} << 25;  // 256 MiB
  std::vector<uint64_t> memory(words, 1);
  const size_t part = words / 64;
  std::atomic<uint64_t> total{0};
  for (auto _ : state) {
    pool.ParallelFor(64, [&](int64_t i, int) {
      const uint64_t* p = memory.data() + static_cast<size_t>(i) * part;
      uint64_t sums[8] = {};
      for (size_t k = 0; k < part; k += 8) {
        for (size_t j = 0; j < 8; ++j) sums[j] += p[k + j];
      }
      uint64_t sum = 0;
      for (const uint64_t s : sums) sum += s;
      total += sum;
    });
  }
  benchmark::DoNotOptimize(total.load());
  state.counters["GB/s"] = Rate(Giga(static_cast<int64_t>(words * 8)));
}
BENCHMARK(MemoryBandwidth)->ArgName("threads")->Arg(1)->Arg(2)->UseRealTime();

#if defined(__x86_64__)

/// 12 chains of vpmaddubsw, vpmaddwd and vpaddd: 64 operations each.
__attribute__((target("avx2"))) void PeakInt8Avx2(benchmark::State& state) {
  const __m256i ones = _mm256_set1_epi16(1);
  __m256i a = _mm256_set1_epi8(3);
  for (auto _ : state) {
    __m256i sum[10] = {};
    for (int i = 0; i < 10000; ++i) {
#pragma GCC unroll 10
      for (int j = 0; j < 10; ++j) {
        asm volatile("" : "+x"(a));
        sum[j] = _mm256_add_epi32(sum[j], _mm256_madd_epi16(_mm256_maddubs_epi16(a, ones), ones));
      }
    }
    for (const __m256i& s : sum) benchmark::DoNotOptimize(s);
  }
  state.counters["GOP/s"] = Rate(Giga(64 * 10 * 10000));
}

/// 16 chains of vpdpbusd: 128 operations each.
__attribute__((target("avx512f,avx512vnni"))) void PeakInt8Avx512(benchmark::State& state) {
  __m512i a = _mm512_set1_epi8(3);
  for (auto _ : state) {
    __m512i sum[16] = {};
    for (int i = 0; i < 10000; ++i) {
#pragma GCC unroll 16
      for (int j = 0; j < 16; ++j) {
        asm volatile("" : "+v"(a));
        sum[j] = _mm512_dpbusd_epi32(sum[j], a, a);
      }
    }
    for (const __m512i& s : sum) benchmark::DoNotOptimize(s);
  }
  state.counters["GOP/s"] = Rate(Giga(128 * 16 * 10000));
}

/// 12 chains of vfmadd231ps: 16 operations each.
__attribute__((target("avx2,fma"))) void PeakFloatAvx2(benchmark::State& state) {
  __m256 a = _mm256_set1_ps(0.5f);
  for (auto _ : state) {
    __m256 sum[12] = {};
    for (int i = 0; i < 10000; ++i) {
#pragma GCC unroll 12
      for (int j = 0; j < 12; ++j) {
        asm volatile("" : "+x"(a));
        sum[j] = _mm256_fmadd_ps(a, a, sum[j]);
      }
    }
    for (const __m256& s : sum) benchmark::DoNotOptimize(s);
  }
  state.counters["GOP/s"] = Rate(Giga(16 * 12 * 10000));
}

#endif

// ---- kernels ------------------------------------------------------------------------------------

/// Codes at random; the scales are whatever the bytes say, made small normal numbers by some bits.
std::vector<std::byte> RandomWeights(DType type, int64_t elements) {
  std::mt19937 random(1);
  std::vector<std::byte> bytes(static_cast<size_t>(*BytesOf(type, elements)));
  for (std::byte& b : bytes) b = static_cast<std::byte>((random() & 0x9f) | 0x20);
  return bytes;
}

/// Normally distributed, so that some 32 have a peak that a set may treat on its own.
std::vector<float> RandomActivations() {
  std::mt19937 random(2);
  std::normal_distribution<float> normal;
  std::vector<float> x(static_cast<size_t>(kCols));
  for (float& value : x) value = normal(random);
  return x;
}

/// As loading does where the set wants it.
void Pack(const KernelSet* set, WeightMatrix& weights, const std::vector<std::byte>& stored,
          std::byte* out) {
  const int64_t together = set->packed_rows == nullptr ? 0 : set->packed_rows(weights.type);
  if (together == 0) return;
  for (int64_t row = 0; row < weights.rows; row += together) {
    const int64_t at = row * weights.row_stride;
    set->pack(weights.type, weights.row_stride, stored.data() + at, out + at);
  }
  weights.packed_rows = static_cast<int32_t>(together);
}

/// One token (range 0) or many, times enough rows to leave the caches when there is one token.
void MatMul(benchmark::State& state, const KernelSet* set, DType type) {
  const int64_t tokens = state.range(0);
  const int64_t rows = tokens < 8 ? kElementsInMemory / kCols : 2048;
  ThreadPool pool(static_cast<int>(state.range(1)));
  std::vector<std::byte> bytes = RandomWeights(type, rows * kCols);
  WeightMatrix weights = {.type = type,
                          .rows = rows,
                          .cols = kCols,
                          .row_stride = *BytesOf(type, kCols),
                          .data = bytes.data()};
  PageBuffer pages = std::move(*PageBuffer::Create(weights.row_stride * rows, "weights"));
  std::memcpy(pages.data(), bytes.data(), bytes.size());
  Pack(set, weights, bytes, pages.data());
  weights.data = pages.data();
  const ActivationFormat format = set->activation_format(type, kCols, tokens);
  const std::vector<float> x = RandomActivations();
  const std::vector<const float*> same(static_cast<size_t>(format.panel), x.data());
  std::vector<std::byte> activations(static_cast<size_t>(format.BytesOf(tokens)));
  for (int64_t t = 0; t < tokens; t += format.panel)
    set->convert_activations(format, kCols, same.data(), std::min(format.panel, tokens - t),
                             activations.data() + format.BytesOf(t));
  std::vector<float> out(static_cast<size_t>(tokens * rows));
  for (auto _ : state) {
    pool.ParallelFor((rows + kTaskRows - 1) / kTaskRows, [&](int64_t i, int) {
      set->matmul(format, weights, i * kTaskRows, std::min(rows, (i + 1) * kTaskRows),
                  activations.data(), tokens, out.data(), rows);
    });
    benchmark::ClobberMemory();
  }
  state.counters["GB/s"] = Rate(Giga(static_cast<int64_t>(bytes.size())));
  state.counters["GOP/s"] = Rate(Giga(2 * rows * kCols * tokens));
}

void Convert(benchmark::State& state, const KernelSet* set, DType type) {
  const std::vector<float> x = RandomActivations();
  const ActivationFormat format = set->activation_format(type, kCols, kMaxPanel);
  const std::vector<const float*> same(static_cast<size_t>(format.panel), x.data());
  std::vector<std::byte> out(static_cast<size_t>(format.BytesOf(format.panel)));
  for (auto _ : state) {
    set->convert_activations(format, kCols, same.data(), format.panel, out.data());
    benchmark::ClobberMemory();
  }
  state.counters["GB/s"] = Rate(Giga(kCols * 4 * format.panel));
}

void Register() {
#if defined(__x86_64__)
  if (FindKernelSet("avx2") != nullptr) {
    benchmark::RegisterBenchmark("peak/avx2/int8", PeakInt8Avx2);
    benchmark::RegisterBenchmark("peak/avx2/float32", PeakFloatAvx2);
  }
  if (FindKernelSet("avx512") != nullptr)
    benchmark::RegisterBenchmark("peak/avx512/int8", PeakInt8Avx512);
#endif
  constexpr DType kTypes[] = {
      DType::kF32,     DType::kF16,    DType::kBF16,  DType::kQ4_0,    DType::kQ4_1,
      DType::kQ5_0,    DType::kQ5_1,   DType::kQ8_0,  DType::kQ2_K,    DType::kQ3_K,
      DType::kQ4_K,    DType::kQ5_K,   DType::kQ6_K,  DType::kIQ1_S,   DType::kIQ1_M,
      DType::kIQ2_XXS, DType::kIQ2_XS, DType::kIQ2_S, DType::kIQ3_XXS, DType::kIQ3_S,
      DType::kIQ4_NL,  DType::kIQ4_XS, DType::kMXFP4, DType::kTQ1_0,   DType::kTQ2_0};
  for (const KernelSet* set : AllKernelSets()) {
    if (!set->usable()) continue;
    for (const DType type : kTypes) {
      const std::string name = std::string(set->name) + "/" + std::string(NameOf(type));
      for (const int threads : {1, 2}) {
        auto* matmul = benchmark::RegisterBenchmark(
            (name + "/matmul").c_str(),
            [set, type](benchmark::State& state) { MatMul(state, set, type); });
        matmul->ArgNames({"tokens", "threads"})->ArgsProduct({{1, 4, 64, 512}, {threads}});
        if (threads > 1) matmul->UseRealTime();  // One thread: its own time, whatever else runs.
      }
      benchmark::RegisterBenchmark(
          (name + "/convert").c_str(),
          [set, type](benchmark::State& state) { Convert(state, set, type); });
    }
  }
}

}  // namespace
}  // namespace moxie

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  moxie::Register();
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
