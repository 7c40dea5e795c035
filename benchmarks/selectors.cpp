// Selecting 256 prompts of a pool: nanoseconds per prompt, and the rate at which the state is read against a plain sum
// over as many bytes, measured in the same run. 1e7 prompts need about 0.5 GB.

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include <benchmark/benchmark.h>

#include <rlvr/select/dopr.hpp>
#include <rlvr/select/greso.hpp>
#include <rlvr/select/prioritized.hpp>
#include <rlvr/select/published.hpp>
#include <rlvr/select/ucb.hpp>

namespace {

using namespace rlvr;

/// Bytes per nanosecond at which one thread sums floats, for arrays of this many bytes.
double read_rate(std::size_t bytes) {
  static std::vector<std::pair<std::size_t, double>> known;
  for (const auto& [size, rate] : known)
    if (size == bytes) return rate;
  const std::vector<float> data(bytes / sizeof(float) + 64, 1.f);
  const std::size_t repeats = 1 + (std::size_t{1} << 28) / bytes;
  double best = 0;
  for (int attempt = 0; attempt < 5; ++attempt) {
    const auto start = std::chrono::steady_clock::now();
    for (std::size_t r = 0; r < repeats; ++r) {
      float lanes[64] = {};
      for (std::size_t i = 0; i + 64 <= data.size(); i += 64)
        for (std::size_t j = 0; j < 64; ++j) lanes[j] += data[i + j];
      benchmark::DoNotOptimize(lanes);
    }
    const std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - start;
    best = std::max(best, static_cast<double>(bytes * repeats) / took.count());
  }
  known.emplace_back(bytes, best);
  return best;
}

outcome some_outcome(std::uint64_t i) {
  outcome o = binary_outcome(static_cast<std::uint32_t>(random_key(2).below(9, i)), 8, 1 + i / 256);
  o.entropy = random_key(3).uniform(i);
  o.diversity = random_key(4).uniform(i);
  return o;
}

/// Every prompt has been visited three times on average; the batch is 256, or the pool's eighth.
template <class S>
void select(benchmark::State& state, S s, std::size_t bytes_per_prompt) {
  const std::size_t n = s.size();
  const random_key key(1);
  for (std::size_t i = 0; i < 3 * n; ++i) s.observe(static_cast<prompt_id>(key.below(n, i)), some_outcome(i));
  std::vector<prompt_id> out(std::min<std::size_t>(256, n / 8));
  std::uint64_t round = 0;
  for (auto _ : state) {
    s.select(out, random_key(++round));
    benchmark::DoNotOptimize(out.data());
  }
  const double prompts = static_cast<double>(n), passes = static_cast<double>(state.iterations());
  using benchmark::Counter;
  state.counters["ns_per_prompt"] =
      Counter(prompts * passes * 1e-9, Counter::kIsRate | Counter::kInvert);
  state.counters["bytes_per_prompt"] = static_cast<double>(bytes_per_prompt);
  state.counters["of_read_rate"] = Counter(
      prompts * passes * static_cast<double>(bytes_per_prompt) * 1e-9 / read_rate(n * bytes_per_prompt), Counter::kIsRate);
}

template <class S>
void observe(benchmark::State& state, S s) {
  const std::size_t n = s.size();
  const random_key key(1);
  std::uint64_t i = 0;
  for (auto _ : state) {
    s.observe(static_cast<prompt_id>(key.below(n, i)), some_outcome(i));
    ++i;
  }
}

std::size_t pool(const benchmark::State& state) { return static_cast<std::size_t>(state.range(0)); }

void select_dopr(benchmark::State& state) { select(state, make_dopr_selector(moving_reward_tracker(pool(state))), 20); }
void select_dopr_fading(benchmark::State& state) {
  select(state, make_dopr_selector(moving_reward_tracker(pool(state)), {}, 0.999), 20);
}
void select_ucb1(benchmark::State& state) { select(state, make_ucb1(pool(state)), 16); }
void select_kl_ucb(benchmark::State& state) { select(state, make_kl_ucb(pool(state)), 16); }
void select_discounted_ucb(benchmark::State& state) { select(state, make_discounted_ucb(pool(state), 0.999), 16); }
void select_vade(benchmark::State& state) { select(state, make_vade(pool(state)), 12); }
void select_spo(benchmark::State& state) { select(state, make_spo(pool(state)), 12); }
void select_mmr1(benchmark::State& state) { select(state, make_mmr1(pool(state)), 4); }
void select_entropy(benchmark::State& state) { select(state, make_entropy(pool(state)), 4); }
void select_greso(benchmark::State& state) { select(state, greso_selector(greso_tracker(pool(state))), 1); }
void select_prioritized(benchmark::State& state) { select(state, prioritized_selector<>(pool(state)), 16); }
void observe_dopr(benchmark::State& state) { observe(state, make_dopr_selector(moving_reward_tracker(pool(state)))); }
void observe_prioritized(benchmark::State& state) { observe(state, prioritized_selector<>(pool(state))); }

}  // namespace

#define RLVR_POOLS RangeMultiplier(10)->Range(1000, 10000000)
BENCHMARK(select_dopr)->RLVR_POOLS;
BENCHMARK(select_dopr_fading)->RLVR_POOLS;
BENCHMARK(select_ucb1)->RLVR_POOLS;
BENCHMARK(select_kl_ucb)->RLVR_POOLS;
BENCHMARK(select_discounted_ucb)->RLVR_POOLS;
BENCHMARK(select_vade)->RLVR_POOLS;
BENCHMARK(select_spo)->RLVR_POOLS;
BENCHMARK(select_mmr1)->RLVR_POOLS;
BENCHMARK(select_entropy)->RLVR_POOLS;
BENCHMARK(select_greso)->RLVR_POOLS;
BENCHMARK(select_prioritized)->RLVR_POOLS;
BENCHMARK(observe_dopr)->RLVR_POOLS;
BENCHMARK(observe_prioritized)->RLVR_POOLS;

BENCHMARK_MAIN();
