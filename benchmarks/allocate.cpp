/// Counting out a rollout budget: nanoseconds per rollout of the budget. The published batches are 256 prompts x 8
/// (Knapsack RL) and 512 x 16 (CoBA-RL); the others show how it grows.

#include <benchmark/benchmark.h>

#include <cstdint>
#include <vector>

#include <rlvr/allocate/capability.hpp>
#include <rlvr/allocate/gradient_variance.hpp>
#include <rlvr/allocate/knapsack.hpp>
#include <rlvr/allocate/uniform.hpp>
#include <rlvr/core/random.hpp>
#include <rlvr/select/down_sample.hpp>

namespace {

using namespace rlvr;

template <allocator A>
void allocate(benchmark::State& state) {
  const auto prompts = static_cast<std::size_t>(state.range(0)),
             budget = prompts * static_cast<std::size_t>(state.range(1));
  std::vector<prompt_belief> beliefs;
  for (std::size_t i = 0; i < prompts; ++i) {
    const double u = random_key(1).uniform(i);
    beliefs.push_back({u < 0.2 ? 0.0 : u > 0.8 ? 1.0 : u, 16, 1 + random_key(2).uniform(i)});
  }
  const std::vector<count_range> ranges{{2, 16 * static_cast<std::uint32_t>(state.range(1))}};
  const A a{};
  for (auto _ : state) benchmark::DoNotOptimize(a(beliefs, budget, ranges));
  state.counters["per_rollout"] = benchmark::Counter(
      static_cast<double>(budget), benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert);
}

void sizes(benchmark::internal::Benchmark* b) {
  b->Unit(benchmark::kMicrosecond)
      ->Args({256, 8})
      ->Args({512, 16})
      ->Args({16384, 16})
      ->Args({262144, 16})
      ->Args({512, 1024});
}

/// PODS on groups of 128 rollouts, 32 kept: nanoseconds per rollout.
void down_sample(benchmark::State& state) {
  const auto rollouts = static_cast<std::size_t>(state.range(0));
  std::vector<verdict> verdicts;
  groups g;
  for (std::size_t i = 0; i < rollouts; ++i) verdicts.push_back({random_key(3).uniform(i), true});
  for (std::size_t end = 128; end <= rollouts; end += 128) g.offsets.push_back(end);
  for (auto _ : state) benchmark::DoNotOptimize(pods(verdicts, g, 32));
  state.counters["per_rollout"] = benchmark::Counter(
      static_cast<double>(rollouts), benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert);
}

}  // namespace

BENCHMARK(allocate<uniform_allocation>)->Apply(sizes);
BENCHMARK(allocate<knapsack_allocation>)->Apply(sizes);
BENCHMARK(allocate<capability_allocation>)->Apply(sizes);
BENCHMARK(allocate<gradient_variance_allocation>)->Apply(sizes);
BENCHMARK(down_sample)->Unit(benchmark::kMicrosecond)->Arg(8192)->Arg(1 << 20);

BENCHMARK_MAIN();
