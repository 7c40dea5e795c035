/// Sampling and gradients of the CPU decoder against the machine's limits, measured in the same run.
///
/// Counters: `of_gemm_peak` is executed flops per second over the peak of an Eigen GEMM on as many threads;
/// `rollouts` and `tokens` are per second. Executed flops count rows that were computed: rollouts that begin alike
/// share them, so rollouts per second are higher than flops suggest.

#include <benchmark/benchmark.h>

#include <Eigen/Core>
#include <algorithm>
#include <chrono>
#include <cstring>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include <rlvr/backend/decoder/model_folder.hpp>
#include <rlvr/backend/decoder/prompts.hpp>
#include <rlvr/backend/eigen/decoder.hpp>

namespace {

using namespace rlvr;

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

/// Runs f on `threads` threads at once, thirty times, and returns the shortest time.
template <class F>
double shortest(std::size_t threads, F f) {
  double best = 1e9;
  for (int repeat = 0; repeat < 30; ++repeat) {
    const auto begin = std::chrono::steady_clock::now();
    {
      std::vector<std::jthread> team;
      for (std::size_t t = 0; t < threads; ++t) team.emplace_back([&f, t] { f(t); });
    }
    best = std::min(best, seconds_since(begin));
  }
  return best;
}

/// Flops per second of 512 x 512 x 512 products, one stream of them per thread.
double gemm_peak(std::size_t threads) {
  static std::map<std::size_t, double> known;
  if (known.contains(threads)) return known[threads];
  constexpr int n = 512, products = 40;
  std::vector<Eigen::MatrixXf> a(threads), b(threads), c(threads);
  for (std::size_t t = 0; t < threads; ++t) {
    a[t] = b[t] = Eigen::MatrixXf::Random(n, n);
    c[t].setZero(n, n);
  }
  const double best = shortest(threads, [&](std::size_t t) {
    for (int i = 0; i < products; ++i) c[t].noalias() = a[t] * b[t];
  });
  return known[threads] = static_cast<double>(threads) * products * 2.0 * n * n * n / best;
}

/// Bytes per second read and written by copies that do not fit the caches.
double copy_bandwidth(std::size_t threads) {
  constexpr std::size_t bytes = std::size_t{1} << 28;
  std::vector<std::vector<char>> from(threads, std::vector<char>(bytes / threads, 1)), to = from;
  const double best =
      shortest(threads, [&](std::size_t t) { std::memcpy(to[t].data(), from[t].data(), from[t].size()); });
  return 2.0 * static_cast<double>(bytes) / best;
}

struct fixture {
  eigen::decoder<float> policy;
  ragged<token> prompts;
  std::vector<sample_request> requests;
  sampling_options sampling{1.0, 32};

  explicit fixture(std::size_t threads)
      : policy([threads] {
          const auto model = decoder::load_model(RLVR_SOURCE_DIR "/examples/models/noisy");
          return eigen::decoder<float>(model.cfg, model.parameters, {.threads = threads});
        }()) {
    const auto model = decoder::load_model(RLVR_SOURCE_DIR "/examples/models/noisy");
    const auto file = decoder::read_prompts(RLVR_SOURCE_DIR "/examples/data/chain_train.jsonl");
    for (std::size_t i = 0; i < 640; ++i) {
      prompts.push_back(model.tokenizer.encode(file.prompts[i]));
      requests.push_back({static_cast<std::uint32_t>(i), 16, 0});
    }
  }

  /// Multiply-adds of the last call, twice: matrices per row, output matrix per scored row, attention per pair.
  double flops() const {
    const auto& c = policy.config();
    const eigen::work_count& w = policy.last_work();
    const double head = static_cast<double>(c.vocab_size * c.hidden_size);
    const double embeddings = head * (c.tied_embeddings ? 1 : 2);
    const double matrices = static_cast<double>(policy.space().dimension()) - embeddings;
    const double attention = 2.0 * static_cast<double>(c.heads * c.head_dim);
    return 2 * (matrices * static_cast<double>(w.rows) + head * static_cast<double>(w.logit_rows) +
                attention * static_cast<double>(w.attention_pairs));
  }
};

void report(benchmark::State& state, double flops, std::size_t threads, std::size_t rollouts, std::size_t tokens) {
  using benchmark::Counter;
  state.counters["of_gemm_peak"] = Counter(flops / gemm_peak(threads), Counter::kIsIterationInvariantRate);
  state.counters["rollouts"] = Counter(static_cast<double>(rollouts), Counter::kIsIterationInvariantRate);
  state.counters["tokens"] = Counter(static_cast<double>(tokens), Counter::kIsIterationInvariantRate);
}

void sample(benchmark::State& state) {
  const auto threads = static_cast<std::size_t>(state.range(0));
  fixture f(threads);
  std::size_t rollouts = 0, tokens = 0;
  for (auto _ : state) {
    const auto r = f.policy.sample(f.prompts, f.requests, f.sampling, random_key(1));
    rollouts = r.size();
    tokens = r.tokens.size();
  }
  report(state, f.flops(), threads, rollouts, tokens);
}

void score(benchmark::State& state) {
  const auto threads = static_cast<std::size_t>(state.range(0));
  fixture f(threads);
  const auto r = f.policy.sample(f.prompts, f.requests, f.sampling, random_key(1));
  for (auto _ : state) benchmark::DoNotOptimize(f.policy.score(f.prompts, r, 1.0));
  report(state, f.flops(), threads, r.size(), r.tokens.size());
}

/// The backward pass executes twice the forward's multiply-adds, plus one recomputation of attention's scores.
void gradient(benchmark::State& state) {
  const auto threads = static_cast<std::size_t>(state.range(0));
  fixture f(threads);
  const auto r = f.policy.sample(f.prompts, f.requests, f.sampling, random_key(1));
  const std::vector<double> coefficients(r.tokens.size(), 1.0);
  auto g = f.policy.space().zero();
  for (auto _ : state) f.policy.accumulate_score(f.prompts, r, coefficients, 1.0, g);
  report(state, 3 * f.flops(), threads, r.size(), r.tokens.size());
}

/// theta + alpha g in place of theta: two vectors read, one written. Above 1 when the model fits the caches, which the
/// copies do not.
void assign_along(benchmark::State& state) {
  fixture f(1);
  const auto theta = f.policy.parameters();
  auto g = f.policy.space().zero();
  g.setConstant(1e-3f);
  for (auto _ : state) {
    f.policy.assign(theta, 0.5, g);
    benchmark::ClobberMemory();
  }
  const double bytes = 3.0 * static_cast<double>(f.policy.space().dimension() * sizeof(float));
  state.counters["of_copy_bandwidth"] =
      benchmark::Counter(bytes / copy_bandwidth(1), benchmark::Counter::kIsIterationInvariantRate);
}

void each_thread_count(benchmark::internal::Benchmark* b) {
  const long all = std::max(1L, static_cast<long>(std::thread::hardware_concurrency()));
  for (long threads = 1; threads < all; threads *= 2) b->Arg(threads);
  b->Arg(all)->ArgName("threads")->UseRealTime()->Unit(benchmark::kMillisecond);
}

BENCHMARK(sample)->Apply(each_thread_count);
BENCHMARK(score)->Apply(each_thread_count);
BENCHMARK(gradient)->Apply(each_thread_count);
BENCHMARK(assign_along)->Unit(benchmark::kMicrosecond);

}  // namespace

BENCHMARK_MAIN();
