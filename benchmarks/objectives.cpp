/// Objectives and group normalisation against the memory bandwidth measured in the same run.
///
/// Counters, of the best iteration: `bytes` moved by one call, each array counted once, one that is only written twice,
/// since a store first fetches its line; `bandwidth` those per second; `of_triad` that over the bandwidth of
/// z = x + 2 y on as many threads and as many tokens, the best of twenty, measured directly afterwards.
/// `items_per_second` are tokens, for advantages rollouts, in groups of eight: one for every sequence, which stay in
/// the cache, and under `/many` one for every four tokens, which do not. Advantages come as a new vector. Options
/// beside Google Benchmark's: --sequences=N --length=L (default 16384 x 1024; 50000 x 1024 needs 2 GB).

#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

#include <rlvr/advantage/centred.hpp>
#include <rlvr/advantage/group_normalized.hpp>
#include <rlvr/core/random.hpp>
#include <rlvr/objective/cispo.hpp>
#include <rlvr/objective/covariance.hpp>
#include <rlvr/objective/dppo.hpp>
#include <rlvr/objective/dro.hpp>
#include <rlvr/objective/entropy_bonus.hpp>
#include <rlvr/objective/gmpo.hpp>
#include <rlvr/objective/gspo.hpp>
#include <rlvr/objective/high_entropy.hpp>
#include <rlvr/objective/importance.hpp>
#include <rlvr/objective/kl_penalty.hpp>
#include <rlvr/objective/mini_rl.hpp>
#include <rlvr/objective/policy_gradient.hpp>
#include <rlvr/objective/ppo_clip.hpp>
#include <rlvr/objective/ratio_normalized_clip.hpp>
#include <rlvr/objective/sapo.hpp>
#include <rlvr/objective/topr.hpp>
#include <rlvr/objective/unified.hpp>
#include <rlvr/objective/vespo.hpp>

namespace {

using namespace rlvr;

std::size_t sequences = 16384, length = 1024;
std::string folder;

/// A file of numbers, whole.
template <class T>
std::vector<T> numbers(const char* name) {
  std::ifstream file(folder + "/" + name, std::ios::binary | std::ios::ate);
  if (!file) throw std::runtime_error("cannot read " + folder + "/" + name);
  std::vector<T> out(static_cast<std::size_t>(file.tellg()) / sizeof(T));
  file.seekg(0);
  file.read(reinterpret_cast<char*>(out.data()), static_cast<std::streamsize>(out.size() * sizeof(T)));
  return out;
}

/// Sequences of equal length on average, from half to one and a half times `length`.
struct arrays {
  std::vector<std::size_t> offsets{0};
  std::vector<float> advantages, rewards, weights, log_probs, old_log_probs, sampled_log_probs, reference_log_probs,
      entropies, coefficients;
  std::vector<std::uint8_t> mask;
  std::vector<branch> branches;

  arrays() {
    if (folder.empty())
      draw_sequences();
    else
      read();
    weights.assign(sequences, 1.f / static_cast<float>(sequences));
    coefficients.resize(tokens());
    branches.resize(tokens());
  }

  void read() {
    offsets = numbers<std::size_t>("offsets");
    advantages = numbers<float>("advantages");
    rewards = numbers<float>("rewards");
    log_probs = numbers<float>("log_probs");
    old_log_probs = sampled_log_probs = numbers<float>("old_log_probs");
    reference_log_probs = numbers<float>("reference_log_probs");
    sequences = advantages.size();
    length = tokens() / sequences;
    entropies.assign(tokens(), 1.f);
    mask.assign(tokens(), 1);
  }

  void draw_sequences() {
    const random_key key(1);
    for (std::size_t i = 0; i < sequences; ++i) {
      offsets.push_back(offsets.back() + length / 2 + key.below(length + 1, i));
      advantages.push_back(static_cast<float>(static_cast<int>(i % 5) - 2));
      rewards.push_back(static_cast<float>(i % 5 == 0));
    }
    const std::size_t n = offsets.back();
    for (std::vector<float>* a : {&log_probs, &old_log_probs, &sampled_log_probs, &reference_log_probs, &entropies})
      a->resize(n);
    mask.resize(n);
    std::uint32_t state = 1;
    const auto draw = [&state](float from, float to) {
      state = state * 1664525u + 1013904223u;
      return from + (to - from) * static_cast<float>(state >> 8) * 0x1p-24f;
    };
    for (std::size_t t = 0; t < n; ++t) {
      log_probs[t] = draw(-3, 0);
      old_log_probs[t] = log_probs[t] + draw(-0.4f, 0.4f);
      sampled_log_probs[t] = old_log_probs[t] + draw(-0.1f, 0.1f);
      reference_log_probs[t] = log_probs[t] + draw(-1, 1);
      entropies[t] = draw(0, 2);
      mask[t] = draw(0, 1) < 0.9f;
    }
  }

  std::size_t tokens() const { return log_probs.size(); }
  token_batch<float> view() const {
    token_batch<float> b;
    b.offsets = offsets;
    b.advantages = advantages;
    b.log_probs = log_probs;
    b.old_log_probs = old_log_probs;
    b.sampled_log_probs = sampled_log_probs;
    b.reference_log_probs = reference_log_probs;
    b.entropies = entropies;
    return b;
  }
};

arrays& data() {
  static arrays a;
  return a;
}

/// Calls f(0) ... f(n - 1), each on a thread of its own.
constexpr auto parallel_for = [](std::size_t n, const auto& f) {
  if (n == 1) return f(0);
  std::vector<std::jthread> team;
  for (std::size_t k = 0; k < n; ++k) team.emplace_back([&f, k] { f(k); });
};

/// Bytes per second of z = x + 2 y over the benchmark's arrays: 16 bytes a token, the best of twenty. Measured beside
/// every benchmark, since other machines on the same host change it.
double triad(std::size_t threads) {
  arrays& a = data();
  double best = 1e9;
  for (int repeat = 0; repeat < 20; ++repeat) {
    const auto begin = std::chrono::steady_clock::now();
    parallel_for(threads, [&](std::size_t k) {
      const std::size_t first = a.tokens() * k / threads, last = a.tokens() * (k + 1) / threads;
      const float *x = a.log_probs.data(), *y = a.old_log_probs.data();
      float* z = a.coefficients.data();
      for (std::size_t t = first; t < last; ++t) z[t] = x[t] + 2.f * y[t];
    });
    benchmark::ClobberMemory();
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  return 16.0 * static_cast<double>(a.tokens()) / best;
}

/// Sets the coefficients to ones: those that corrections multiply again and again would leave the range of numbers.
constexpr auto reset_coefficients = [] { std::fill(data().coefficients.begin(), data().coefficients.end(), 1.f); };

/// Runs f once per iteration, after `prepare`, and reports the best of them, as triad does.
template <class F, class Prepare>
void measure(benchmark::State& state, std::size_t count, double bytes_per_item, F f, Prepare prepare) {
  double best = 1e9;
  for (auto _ : state) {
    state.PauseTiming();
    prepare();
    state.ResumeTiming();
    const auto begin = std::chrono::steady_clock::now();
    f();
    benchmark::ClobberMemory();
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  const double items = static_cast<double>(count), bandwidth = items * bytes_per_item / best;
  state.counters["items_per_second"] = items / best;
  state.counters["bytes"] = items * bytes_per_item;
  state.counters["bandwidth"] = bandwidth;
  state.counters["of_triad"] = bandwidth / triad(static_cast<std::size_t>(state.range(0)));
}

enum class extra { nothing, branches, mask };

/// One objective or adjustment; `moves` is how often it reads or writes a float per token. On several threads if it is
/// separable.
template <class O>
void add(const std::string& name, const O& o, double moves, extra with = extra::nothing) {
  const double bytes = 4 * moves + (with == extra::branches ? 2 : with == extra::mask ? 1 : 0);
  const auto run = [o, bytes, with](benchmark::State& state) {
    arrays& a = data();
    token_batch<float> b = a.view();
    if (with == extra::mask) b.mask = a.mask;
    const std::span<branch> branches = with == extra::branches ? std::span<branch>(a.branches) : std::span<branch>{};
    const auto threads = static_cast<std::size_t>(state.range(0));
    measure(
        state, a.tokens(), bytes,
        [&] {
          if constexpr (separable<O, float>)
            run_in_parts(o, b, a.weights, std::span<float>(a.coefficients), branches, threads, parallel_for);
          else
            o(b, a.weights, std::span<float>(a.coefficients), branches);
        },
        reset_coefficients);
  };
  auto* registered = benchmark::RegisterBenchmark(name.c_str(), run)->Unit(benchmark::kMillisecond)->UseRealTime();
  registered->Arg(1);
  if (separable<O, float>) registered->Arg(4);
}

/// One advantage estimator.
template <class A>
void add_estimator(const std::string& name, const A& estimator, std::size_t rollouts) {
  const auto run = [estimator, rollouts](benchmark::State& state) {
    std::vector<verdict> verdicts(rollouts);
    for (std::size_t i = 0; i < verdicts.size(); ++i)
      verdicts[i] = {.reward = data().rewards[i % data().rewards.size()], .scored = true};
    groups g;
    for (std::size_t i = 0; i < verdicts.size();) g.offsets.push_back(i = std::min(i + 8, verdicts.size()));
    measure(
        state, verdicts.size(), sizeof(verdict) + 2 * sizeof(double) + 1,
        [&] { benchmark::DoNotOptimize(estimator(verdicts, g)); }, [] {});
  };
  benchmark::RegisterBenchmark(name.c_str(), run)->Arg(1)->Unit(benchmark::kMillisecond)->UseRealTime();
}

void add_all() {
  add("policy_gradient", policy_gradient{}, 2);
  add("ppo_clip", ppo_clip{.high = 0.28, .dual = 3}, 4);
  add("ppo_clip/branches", ppo_clip{.high = 0.28, .dual = 3}, 4, extra::branches);
  add("ppo_clip/mask", ppo_clip{.high = 0.28, .dual = 3}, 4, extra::mask);
  add("cispo", cispo{}, 4);
  add("sapo", sapo{}, 4);
  add("dro", dro{}, 4);
  add("mini_rl", mini_rl{}, 5);
  add("dppo", dppo{}, 4);
  add("dppo_kl", dppo{.divergence = binary_divergence::kl}, 4);
  add("gspo", gspo{}, 4);
  add("gmpo", gmpo{}, 4);
  add("topr", topr{}, 4);
  add("vespo", vespo{}, 4);
  add("masked_ratio", masked_ratio{}, 4);
  add("ratio_normalized_clip", ratio_normalized_clip{.scale = 0.5, .step = 0.1}, 4);
  add("unified_gradient", unified_gradient{.over = reference_policy::old, .high = 0.28}, 4);
  add("shaped_imitation", shaped_imitation{}, 3);
  add("clip_cov", clip_cov{}, 4);
  add("kl_cov", kl_cov{}, 4);
  add("importance_correction", importance_correction{}, 4);
  add("off_policy_mask", off_policy_mask{}, 4);
  add("kl_penalty", kl_penalty{}, 4);
  add("entropy_bonus", entropy_bonus{}, 4);
  add("high_entropy_only", high_entropy_only{0.5}, 3);
  benchmark::RegisterBenchmark("entropy_threshold",
                               [](benchmark::State& state) {
                                 const token_batch<float> b = data().view();
                                 measure(
                                     state, b.tokens(), 4, [&] { benchmark::DoNotOptimize(entropy_threshold(b, 0.2)); },
                                     [] {});
                               })
      ->Arg(1)
      ->Unit(benchmark::kMillisecond)
      ->UseRealTime();
  const std::size_t many = sequences * length / 4;
  add_estimator("group_normalized", group_normalized{}, sequences);
  add_estimator("group_normalized/many", group_normalized{}, many);
  add_estimator("leave_one_out", centred{.against = baseline::leave_one_out}, sequences);
  add_estimator("leave_one_out/many", centred{.against = baseline::leave_one_out}, many);
}

/// Takes "--name=number" out of the arguments.
void take(int& argc, char** argv, const std::string& name, auto& value) {
  for (int i = 1; i < argc; ++i)
    if (std::strncmp(argv[i], (name + "=").c_str(), name.size() + 1) == 0) {
      const char* text = argv[i] + name.size() + 1;
      if constexpr (std::is_same_v<decltype(value), std::string&>)
        value = text;
      else
        value = std::max(1ul, std::strtoul(text, nullptr, 10));
      for (int k = i; k + 1 < argc; ++k) argv[k] = argv[k + 1];
      --argc;
      return;
    }
}

}  // namespace

int main(int argc, char** argv) {
  take(argc, argv, "--sequences", sequences);
  take(argc, argv, "--length", length);
  take(argc, argv, "--arrays", folder);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  if (!folder.empty()) data();  // sets sequences
  add_all();
  benchmark::RunSpecifiedBenchmarks();
}
