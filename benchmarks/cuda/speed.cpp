// How fast rlvr::cuda is on this GPU, as shares of what the GPU can do, both measured here:
//   vectors   scale, axpy, dot, the fused step and the Gram matrix, of the rate of a device-to-device copy: of_copy
//   gradient  accumulate_score of random models in the shapes of Qwen3-0.6B and 4B, 32768 tokens in sequences of
//             512, 1024 and 2048, of the rate of a large bfloat16 product: of_products, the model-flops utilisation
//   sampling  1024 rollouts of 256 tokens in groups of 16 that share a prompt of 128, of the least time in which the
//             decode steps' bytes can be read: of_bandwidth
//   cuda_speed --benchmark_filter='^vectors|^gradient/0.6B|^gradient/4B|^sampling'
// Ends with 77 where there is no GPU. Needs on the GPU 20 GB for the vectors, 60 GB for the 4B shape and 40 GB for
// sampling, and 20 GB on the host.

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>

#include <rlvr/backend/cuda/decoder.hpp>
#include <rlvr/backend/cuda/error.hpp>

namespace {

using namespace rlvr;

/// The shapes of Qwen3.
decoder::config shape(const std::string& size) {
  const bool small = size == "0.6B";
  decoder::config c;
  c.model_type = "qwen3";
  c.vocab_size = 151936;
  c.hidden_size = small ? 1024 : 2560;
  c.intermediate_size = small ? 3072 : 9728;
  c.layers = small ? 28 : 36;
  c.heads = small ? 16 : 32;
  c.kv_heads = 8;
  c.head_dim = 128;
  c.rope_theta = 1e6;
  c.tied_embeddings = true;
  c.qk_norm = true;
  c.max_positions = 40960;
  return c;
}

/// Uniform in [-size / 2, size / 2). A GPU is slower on numbers that differ than on zeros: they cost more power.
std::vector<float> noise(std::size_t n, float size) {
  std::vector<float> out(n);
  std::uint32_t state = 1;
  for (float& x : out) {
    state = state * 1664525u + 1013904223u;
    x = (static_cast<float>(state >> 8) * 0x1p-24f - 0.5f) * size;
  }
  return out;
}

std::vector<token> words(std::size_t n, std::uint64_t seed) {
  std::vector<token> out(n);
  for (std::size_t i = 0; i < n; ++i) out[i] = static_cast<token>(random_key(seed).below(150000, i));
  return out;
}

class bench {
 public:
  explicit bench(std::shared_ptr<cuda::device> gpu) : gpu_(std::move(gpu)) {}

  void vectors(benchmark::State& state, const std::string& what) {
    const std::size_t n = std::size_t{1} << 28;
    const cuda::space s(gpu_, {{"x", {n}, 0}});
    cuda::device_vector x = s.zero(), y = s.zero(), z = s.zero();
    s.upload(noise(n, 2), x);
    s.assign(z, x);
    const cuda::buffer weights(gpu_, 2 * n);
    const auto run = [&](double bytes, auto f) { run_vectors(state, s, y, x, bytes * static_cast<double>(n), f); };
    if (what == "copy") run(8, [&] { s.assign(y, x); });
    if (what == "scale") run(8, [&] { s.scale(0.999, z); });
    if (what == "axpy") run(12, [&] { s.axpy(1e-3, x, z); });
    if (what == "dot") run(8, [&] { (void)s.dot(x, z); });
    if (what == "step")
      run(14, [&] {
        gpu_->step(x.data(), 0.1, z.data(), y.data(), static_cast<cuda::bfloat16*>(weights.data()), n);
      });
  }

  void gram(benchmark::State& state) {
    const std::size_t n = std::size_t{1} << 28;
    const cuda::space s(gpu_, {{"x", {n}, 0}});
    const std::vector<float> numbers = noise(n, 2);
    std::vector<cuda::device_vector> vectors;
    std::vector<const cuda::device_vector*> all;
    for (std::int64_t i = 0; i < state.range(0); ++i) {
      vectors.push_back(s.zero());
      s.upload(numbers, vectors.back());
    }
    for (const cuda::device_vector& v : vectors) all.push_back(&v);
    cuda::device_vector y = s.zero();
    run_vectors(state, s, y, vectors[0], 4.0 * static_cast<double>(n * vectors.size()), [&] { (void)s.gram(all); });
  }

  void gradient(benchmark::State& state, const std::string& size) {
    const auto length = static_cast<std::size_t>(state.range(0)), count = 32768 / length, prompt = length / 4;
    const double products = product_rate();
    cuda::decoder& model = model_of(size);
    const decoder::config c = shape(size);
    ragged<token> prompts;
    rollouts r;
    for (std::uint32_t i = 0; i < count; ++i) {
      prompts.push_back(words(prompt, i));
      const std::vector<token> completion = words(length - prompt, 1000 + i);
      r.tokens.insert(r.tokens.end(), completion.begin(), completion.end());
      r.offsets.push_back(r.tokens.size());
      r.prompts.push_back(i);
    }
    std::vector<double> coefficients(r.tokens.size());
    for (std::size_t t = 0; t < coefficients.size(); ++t) coefficients[t] = 2 * random_key(7).uniform(t) - 1;
    auto g = model.space().zero();
    const double spent = run(state, [&] { model.accumulate_score(prompts, r, coefficients, 1.0, g); });

    // 6 per parameter and token that it sees, and 12 per pair of positions and number in a head. The embedding is read,
    // not multiplied, and as the output head it sees the completions' tokens only.
    const double head = static_cast<double>(c.vocab_size * c.hidden_size), tokens = static_cast<double>(count * length);
    const double body = static_cast<double>(model.space().dimension()) - head;
    const double width = static_cast<double>(c.layers * c.heads * c.head_dim);
    const double pairs = tokens * static_cast<double>(length) / 2;
    const double flops = 6 * (body * tokens + head * static_cast<double>(r.tokens.size())) + 12 * pairs * width;
    state.counters["tokens_per_second"] = tokens / spent;
    state.counters["flops"] = flops / spent;
    state.counters["of_products"] = flops / spent / products;
    state.counters["micro_batch"] = static_cast<double>(model.plan().rows);
  }

  void products(benchmark::State& state) {
    const double flops = 2.0 * product_size * product_size * product_size;
    const cuda::buffer a = random_matrix(), b = random_matrix(), c(gpu_, 2 * product_size * product_size);
    const double spent = run(state, [&] { multiply(a, b, c); });
    state.counters["flops"] = flops / spent;
  }

  void sampling(benchmark::State& state) {
    const auto count = static_cast<std::uint32_t>(state.range(0)), length = static_cast<std::uint32_t>(state.range(1));
    const std::size_t prompt = 128, group = 16;
    const decoder::config c = shape("0.6B");
    cuda::decoder& model = model_of("0.6B");
    double copy = 0;
    {
      auto x = model.space().zero(), y = model.space().zero();
      copy = copy_rate(model.space(), y, x);
    }
    ragged<token> prompts;
    std::vector<sample_request> requests;
    for (std::uint32_t i = 0; i < count / group; ++i) {
      prompts.push_back(words(prompt, i));
      requests.push_back({i, group, 0});
    }
    std::size_t tokens = 0;
    const double spent = run(state, [&] {
      tokens = model.sample(prompts, requests, {1.0, length}, random_key(1)).tokens.size();
    });
    // A step reads the weights, each rollout's own cache, half full on average, and each group's prompt's.
    const double row = 2.0 * 2.0 * static_cast<double>(c.layers * c.kv_heads * c.head_dim), n = count;
    const double weights = 2.0 * static_cast<double>(model.space().dimension()), own = n * row * length / 2;
    const double shared = weights + own + n / group * prompt * row, alone = weights + own + n * prompt * row;
    state.counters["tokens_per_second"] = static_cast<double>(tokens) / spent;
    state.counters["of_bandwidth"] = shared * length / copy / spent;
    // The same where every rollout of a group reads the prompt's cache again, as samplers that share nothing must.
    state.counters["of_bandwidth_unshared"] = alone * length / copy / spent;
    state.counters["at_once"] = static_cast<double>(model.plan().slots);
  }

 private:
  static constexpr std::int64_t product_size = 8192;

  template <class F>
  double seconds(F f) {
    gpu_->synchronize();
    const auto begin = std::chrono::steady_clock::now();
    f();
    gpu_->synchronize();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  }
  /// Times f, which has run once before. Seconds of one.
  template <class F>
  double run(benchmark::State& state, F f) {
    f();
    double sum = 0;
    for (auto _ : state) {
      const double spent = seconds(f);
      sum += spent;
      state.SetIterationTime(spent);
    }
    return sum / static_cast<double>(state.iterations());
  }
  /// Ten calls at a time, so that waiting for the GPU does not count.
  template <class F>
  void run_vectors(benchmark::State& state, const cuda::space& s, cuda::device_vector& y, const cuda::device_vector& x,
                   double bytes, F f) {
    const double copy = copy_rate(s, y, x), spent = run(state, [&] {
                          for (int i = 0; i < 10; ++i) f();
                        });
    state.counters["bytes_per_second"] = 10 * bytes / spent;
    state.counters["of_copy"] = 10 * bytes / spent / copy;
  }
  /// Bytes read and written per second.
  double copy_rate(const cuda::space& s, cuda::device_vector& y, const cuda::device_vector& x) {
    const auto copies = [&] {
      for (int i = 0; i < 10; ++i) s.assign(y, x);
    };
    copies();
    double sum = 0;
    for (int i = 0; i < 5; ++i) sum += seconds(copies);
    return 5 * 10 * 8.0 * static_cast<double>(s.dimension()) / sum;
  }

  cuda::buffer random_matrix() {
    const std::size_t n = product_size * product_size;
    const cuda::buffer floats(gpu_, 4 * n);
    cuda::buffer out(gpu_, 2 * n);
    gpu_->upload(floats.data(), noise(n, 2).data(), 4 * n);
    gpu_->cast(static_cast<const float*>(floats.data()), operand_of(out), n);
    gpu_->synchronize();
    return out;
  }
  static cuda::operand operand_of(const cuda::buffer& x) { return {x.data(), cuda::scalar_type::bfloat16}; }
  void multiply(const cuda::buffer& a, const cuda::buffer& b, const cuda::buffer& c) {
    gpu_->multiply(cuda::product_form::nt, product_size, product_size, product_size, operand_of(a), operand_of(b),
                   operand_of(c), cuda::result_mode::assign);
  }
  /// Of a product that fills the GPU, in flops per second, measured once.
  double product_rate() {
    if (product_rate_ > 0) return product_rate_;
    const cuda::buffer a = random_matrix(), b = random_matrix(), c(gpu_, 2 * product_size * product_size);
    const auto some = [&] {
      for (int i = 0; i < 20; ++i) multiply(a, b, c);
    };
    some();
    return product_rate_ = 20 * 2.0 * product_size * product_size * product_size / seconds(some);
  }

  /// The last model is kept.
  cuda::decoder& model_of(const std::string& size) {
    if (model_ && model_size_ == size) return *model_;
    model_.reset();
    const decoder::config c = shape(size);
    const std::vector<tensor_slot> slots = decoder::layout(c);
    std::vector<float> theta = noise(decoder::parameter_count(slots), 0.07f);
    for (const tensor_slot& t : slots)
      if (t.name.ends_with("norm.weight"))
        std::fill_n(theta.begin() + static_cast<std::ptrdiff_t>(t.offset), t.size(), 1.f);
    model_.emplace(gpu_, c, theta);
    model_size_ = size;
    return *model_;
  }

  std::shared_ptr<cuda::device> gpu_;
  double product_rate_ = 0;
  std::optional<cuda::decoder> model_;
  std::string model_size_;
};

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  std::shared_ptr<cuda::device> gpu;
  try {
    gpu = cuda::open_device();
  } catch (const cuda::device_error& e) {
    std::fprintf(stderr, "skipped: %s\n", e.what());
    return 77;
  }
  try {
    bench b(gpu);
    const auto add = [](const std::string& name, int iterations, auto f) {
      return benchmark::RegisterBenchmark(name.c_str(), f)
          ->Iterations(iterations)
          ->UseManualTime()
          ->Unit(benchmark::kMillisecond);
    };
    for (const std::string what : {"copy", "scale", "axpy", "dot", "step"})
      add("vectors/" + what, 10, [&b, what](benchmark::State& state) { b.vectors(state, what); });
    add("vectors/gram", 5, [&b](benchmark::State& state) { b.gram(state); })->Arg(2)->Arg(8)->Arg(16);
    add("products", 50, [&b](benchmark::State& state) { b.products(state); });
    add("sampling", 1, [&b](benchmark::State& state) { b.sampling(state); })->Args({1024, 256});
    for (const std::string size : {"0.6B", "4B"})
      add("gradient/" + size, 3, [&b, size](benchmark::State& state) { b.gradient(state, size); })
          ->Arg(512)
          ->Arg(1024)
          ->Arg(2048);
    benchmark::RunSpecifiedBenchmarks();
  } catch (const std::exception& e) {
    std::fprintf(stderr, "cuda_speed: %s\n", e.what());
    return 1;
  }
}
