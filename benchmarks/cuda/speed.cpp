// How fast rlvr::cuda is on this GPU, as shares of what the GPU can do, both measured here:
//   vectors   scale, axpy, dot, norm, the fused step and the Gram matrix, of the rate of a device-to-device copy, which
//             assign is: of_copy. Each number is counted once each time it is read or written; dot, norm and gram hand
//             their result to the host before the next call, and that is in their time
//   gradient  accumulate_score of random models in the shapes of Qwen3-0.6B and 4B, 32768 tokens in sequences of
//             512, 1024 and 2048, of the rate of a large bfloat16 product: of_products, the model-flops utilisation. Of
//             one layer of the 0.6B shape, 16384 rows in sequences of 1024, what is between products and attention, as
//             shares of copy
//   attention of one layer in these shapes, the same tokens, forward and backward, of the rate of a large product. By
//             its definition two products forward and five backward are counted, of the half of all pairs that causal
//             attention sees. The backward computes scores and dout v^T twice, seven products, so that no sum is in the
//             order of atomics
//   sampling  1024 rollouts of 256 tokens in groups of 16 that share a prompt of 128, of the least time in which the
//             decode steps' bytes can be read: of_bandwidth. Of a step half way one layer's attention, the product that
//             makes the logits, and the draw, as shares of copy and products
//   cuda_speed --benchmark_filter='^vectors|^gradient/0.6B|^gradient/4B|^attention|^sampling'
// Times are of one call; what takes little is called ten or twenty times before the host waits. A benchmark that fails
// says why, and the others go on: the exit status is then 1, and 77 where there is no GPU. Needs on the GPU 20 GB for
// the vectors, 60 GB for the 4B shape and 40 GB for sampling, and 20 GB on the host.

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <benchmark/benchmark.h>

#include <rlvr/backend/cuda/decoder.hpp>
#include <rlvr/backend/cuda/error.hpp>
#include <rlvr/core/norm.hpp>

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
    const auto run = [&](double bytes, auto f) {
      run_bytes(state, bytes * static_cast<double>(n), copy_rate(s, y, x), f);
    };
    if (what == "copy") run(8, [&] { s.assign(y, x); });
    if (what == "scale") run(8, [&] { s.scale(0.999, z); });
    if (what == "axpy") run(12, [&] { s.axpy(1e-3, x, z); });
    if (what == "dot") run(8, [&] { (void)s.dot(x, z); });
    if (what == "norm") run(4, [&] { (void)norm(s, x); });
    if (what == "step")
      run(14, [&] { gpu_->step(x.data(), 0.1, z.data(), y.data(), static_cast<cuda::bfloat16*>(weights.data()), n); });
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
    run_bytes(state, 4.0 * static_cast<double>(n * vectors.size()), copy_rate(s, y, vectors[0]),
              [&] { (void)s.gram(all); });
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
    const double spent = run(state, 1, [&] { model.accumulate_score(prompts, r, coefficients, 1.0, g); });

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
    state.counters["kept_layers"] = static_cast<double>(model.plan().kept_layers);
  }

  /// Of the bytes that must be read and written.
  void layer_rows(benchmark::State& state, const std::string& what) {
    const cuda::model_shape s(shape("0.6B"));
    const auto n = [](std::int32_t width) {
      return static_cast<std::size_t>(layer_tokens) * static_cast<std::size_t>(width);
    };
    const auto run = [&](std::size_t bytes, auto f) { run_bytes(state, static_cast<double>(bytes), copy_rate(), f); };
    if (what == "swiglu" || what == "swiglu_backward") {
      const cuda::buffer gate_up = random_numbers(n(s.gate_up_width)), dgate_up(gpu_, gate_up.bytes());
      const cuda::buffer gated = random_numbers(n(s.mlp));
      if (what == "swiglu")
        run(gate_up.bytes() + gated.bytes(),
            [&] { gpu_->swiglu(operand_of(gate_up), layer_tokens, s.mlp, operand_of(gated)); });
      else
        run(2 * gate_up.bytes() + gated.bytes(), [&] {
          gpu_->swiglu_backward(operand_of(gated), operand_of(gate_up), layer_tokens, s.mlp, operand_of(dgate_up));
        });
      return;
    }
    const cuda::buffer w = random_floats(static_cast<std::size_t>(s.hidden)), dw = random_floats(w.bytes() / 4);
    if (what == "norm" || what == "norm_backward") {
      const cuda::buffer x = random_floats(n(s.hidden)), dy = random_floats(n(s.hidden)),
                         dx = random_floats(n(s.hidden));
      const cuda::buffer y(gpu_, 2 * n(s.hidden)), r(gpu_, 4 * n(1));
      const cuda::row_shape all{layer_tokens, 1, s.hidden};
      const auto row = [&](cuda::operand at) { return cuda::row_operand{at, s.hidden}; };
      const auto norm = [&] {
        gpu_->rms_norm(all, row(floats_of(x)), at<float>(w), 1e-6, row(operand_of(y)), at<float>(r), nullptr);
      };
      norm();
      if (what == "norm")
        run(x.bytes() + y.bytes(), norm);
      else
        run(4 * x.bytes() + y.bytes(), [&] {
          gpu_->rms_norm_backward(all, row(floats_of(dy)), row(floats_of(x)), at<float>(w), at<float>(r),
                                  row(floats_of(dx)), at<float>(dw), cuda::result_mode::add, operand_of(y));
        });
      return;
    }
    const cuda::buffer raw = random_numbers(n(s.qkv_width)), qkv = random_numbers(n(s.qkv_width));
    const auto half = static_cast<std::size_t>(s.head_dim) / 2;
    std::vector<float> cosines(half * layer_length), sines(cosines.size());
    for (std::size_t i = 0; i < cosines.size(); ++i) {
      cosines[i] = std::cos(static_cast<float>(i));
      sines[i] = std::sin(static_cast<float>(i));
    }
    const cuda::buffer cosine = floats(cosines), sine = floats(sines);
    // The gradient is taken in place, again and again: it keeps its size when weight times reciprocal root is 1.
    const float root = std::sqrt(3.f);  // of numbers uniform in [-1, 1)
    const cuda::buffer weight = floats(std::vector<float>(2 * half, 1 / root));
    const cuda::buffer scale = floats(std::vector<float>(n(s.qk_norms()), root));
    std::vector<std::int32_t> order(n(1));
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<std::int32_t>(i % layer_length);
    const cuda::buffer positions(gpu_, 4 * order.size());
    gpu_->upload(positions.data(), order.data(), positions.bytes());
    cuda::head_preparation how{.positions = at<std::int32_t>(positions)};
    how.cosines = at<float>(cosine);
    how.sines = at<float>(sine);
    how.q_norm = how.k_norm = at<float>(weight);
    how.scale = at<float>(scale);
    const cuda::attention_shape heads = cuda::attention_of(s, 0);
    if (what == "heads")
      run(raw.bytes() + qkv.bytes(),
          [&] { gpu_->prepare_heads(heads, layer_tokens, operand_of(raw), operand_of(qkv), how); });
    else  // queries and keys: of their gradients, and what they were
      run(3 * 2 * n(s.q_width + s.kv_width), [&] {
        gpu_->prepare_heads_backward(heads, layer_tokens, operand_of(qkv), operand_of(raw), how, at<float>(dw),
                                     at<float>(w));
      });
  }

  /// One layer's, of sequences that share nothing.
  void attention(benchmark::State& state, const std::string& size, const std::string& what) {
    const auto length = static_cast<std::size_t>(state.range(0)), tokens = std::size_t{32768};
    const double products = product_rate();
    const cuda::model_shape s(shape(size));
    const cuda::attention_shape heads = cuda::attention_of(s, 0);
    const auto n = [&](std::int32_t width) { return tokens * static_cast<std::size_t>(width); };
    const cuda::buffer qkv = random_numbers(n(s.qkv_width)), dqkv(gpu_, qkv.bytes()),
                       dout = random_numbers(n(s.q_width));
    const cuda::buffer out(gpu_, dout.bytes()), log_sum(gpu_, 4 * n(s.heads)), delta(gpu_, log_sum.bytes());
    ragged<token> prompts;  // a completion of one token has no row of its own
    rollouts r;
    std::vector<std::size_t> all;
    for (std::size_t i = 0; i < tokens / length; ++i) {
      prompts.push_back(std::vector<token>(length, 0));
      r.tokens.push_back(0);
      r.offsets.push_back(r.tokens.size());
      r.prompts.push_back(static_cast<std::uint32_t>(i));
      all.push_back(i);
    }
    const cuda::packing p(prompts, r, {}, all, gpu_->tiles(cuda::scalar_type::bfloat16, s.head_dim));
    const auto list = [&](const auto& values) {
      cuda::buffer on_gpu(gpu_, values.size() * sizeof(values[0]));
      gpu_->upload(on_gpu.data(), values.data(), on_gpu.bytes());
      return on_gpu;
    };
    const cuda::buffer forward = list(p.forward), queries = list(p.backward), keys = list(p.keys),
                       positions = list(p.positions);
    const cuda::operand x = operand_of(qkv);
    const cuda::key_value_rows kv{x.offset(static_cast<std::size_t>(s.q_width)),
                                  x.offset(static_cast<std::size_t>(s.q_width + s.kv_width)), s.qkv_width};
    const auto count = [](const auto& values) { return static_cast<std::int32_t>(values.size()); };
    const auto attend = [&] {
      gpu_->attention(heads, at<cuda::attention_task>(forward), count(p.forward), x, s.qkv_width, kv, kv,
                      operand_of(out), s.q_width, at<float>(log_sum), false);
    };
    const auto attend_backward = [&] {
      gpu_->attention_backward(heads, p.rows(), at<cuda::attention_task>(queries), count(p.backward),
                               at<cuda::key_task>(keys), count(p.keys), at<std::int32_t>(positions), x, operand_of(out),
                               operand_of(dout), at<float>(log_sum), at<float>(delta), operand_of(dqkv));
    };
    attend();  // the backward needs its result
    const bool backward = what == "backward";
    const double spent = run(state, 10, [&] { backward ? attend_backward() : attend(); });
    const double pairs = static_cast<double>(n(s.q_width) * length) / 2, flops = (backward ? 10 : 4) * pairs;
    state.counters["flops"] = flops / spent;
    state.counters["of_products"] = flops / spent / products;
  }

  void products(benchmark::State& state) {
    const double flops = 2.0 * product_size * product_size * product_size;
    const cuda::buffer a = random_matrix(), b = random_matrix(), c(gpu_, 2 * product_size * product_size);
    const double spent = run(state, 20, [&] { multiply(a, b, c); });
    state.counters["flops"] = flops / spent;
  }

  /// One layer's attention of a step half way, a query for each of 1024 rollouts, in groups of 16 with one prompt.
  void decode_attention(benchmark::State& state) {
    const double copy = copy_rate();
    const std::int32_t rollouts = 1024, group = 16, keys = 128;
    const cuda::attention_shape s{16, 8, 128, 0};
    const std::int32_t q_width = s.heads * s.head_dim, kv_width = s.kv_heads * s.head_dim;
    const auto cache = [&](std::int32_t rows) { return random_numbers(std::size_t{2} * rows * kv_width); };
    const cuda::buffer prompts = cache(rollouts / group * keys), own = cache(rollouts * keys);
    const cuda::buffer q = random_numbers(std::size_t{1} * rollouts * q_width), out(gpu_, 2ull * rollouts * q_width);
    std::vector<cuda::attention_task> tasks;
    for (std::int32_t i = 0; i < rollouts; ++i) tasks.push_back({i, 1, i / group * keys, keys, i * keys, keys - 1});
    const cuda::buffer list(gpu_, tasks.size() * sizeof(cuda::attention_task));
    gpu_->upload(list.data(), tasks.data(), list.bytes());
    const auto rows_of = [&](const cuda::buffer& x) {
      const cuda::operand keys = operand_of(x);
      return cuda::key_value_rows{keys, keys.offset(static_cast<std::size_t>(kv_width)), 2 * kv_width};
    };
    run_bytes(state, static_cast<double>(prompts.bytes() + own.bytes()), copy, [&] {
      gpu_->attention(s, static_cast<const cuda::attention_task*>(list.data()), rollouts, operand_of(q), q_width,
                      rows_of(prompts), rows_of(own), operand_of(out), q_width, nullptr, true);
    });
  }
  void decode_logits(benchmark::State& state) {
    const double rate = product_rate();
    const std::int64_t rows = 1024, hidden = 1024, vocab = 151936;
    const cuda::buffer x = random_numbers(static_cast<std::size_t>(rows * hidden));
    const cuda::buffer w = random_numbers(static_cast<std::size_t>(vocab * hidden));
    const cuda::buffer logits(gpu_, static_cast<std::size_t>(4 * rows * vocab));
    const double spent = run(state, 10, [&] {
      gpu_->multiply(cuda::product_form::nt, rows, vocab, hidden, operand_of(x), operand_of(w),
                     {logits.data(), cuda::scalar_type::float32}, cuda::result_mode::assign);
    });
    state.counters["of_products"] = 2.0 * static_cast<double>(rows * vocab * hidden) / spent / rate;
  }
  void decode_draw(benchmark::State& state) {
    const double copy = copy_rate();
    const std::int32_t rows = 1024, vocab = 151936;
    const cuda::buffer logits(gpu_, 4ull * rows * vocab), uniform(gpu_, 8ull * rows), log_probs(gpu_, 8ull * rows);
    const cuda::buffer p(gpu_, rows * sizeof(cuda::row_distribution)), next(gpu_, 4ull * rows);
    gpu_->upload(logits.data(), noise(std::size_t{1} * rows * vocab, 20).data(), logits.bytes());
    gpu_->upload(uniform.data(), std::vector<double>(rows, 0.37).data(), uniform.bytes());
    run_bytes(state, static_cast<double>(logits.bytes()), copy, [&] {
      gpu_->draw(static_cast<const float*>(logits.data()), rows, vocab, 1.0,
                 static_cast<cuda::row_distribution*>(p.data()), static_cast<const double*>(uniform.data()),
                 static_cast<std::int32_t*>(next.data()), static_cast<double*>(log_probs.data()));
    });
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
    const double spent = run(state, 1, [&] {
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
  static constexpr std::int32_t layer_tokens = 16384, layer_length = 1024;

  template <class F>
  double seconds(F f) {
    gpu_->synchronize();
    const auto begin = std::chrono::steady_clock::now();
    f();
    gpu_->synchronize();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  }
  /// Not counted: kernels are loaded, and clocks rise.
  template <class F>
  void warm_up(F f) {
    for (double spent = 0; spent < 0.1;) spent += seconds(f);
  }
  /// Times f, `calls` of it at a time. Seconds of one.
  template <class F>
  double run(benchmark::State& state, int calls, F f) {
    const auto some = [&] {
      for (int i = 0; i < calls; ++i) f();
    };
    warm_up(some);
    double sum = 0;
    for (auto _ : state) {
      const double spent = seconds(some) / calls;
      sum += spent;
      state.SetIterationTime(spent);
    }
    return sum / static_cast<double>(state.iterations());
  }
  /// What must read and write so many bytes.
  template <class F>
  void run_bytes(benchmark::State& state, double bytes, double copy, F f) {
    const double spent = run(state, 10, f);
    state.counters["bytes_per_second"] = bytes / spent;
    state.counters["of_copy"] = bytes / spent / copy;
  }
  double copy_rate() {
    const cuda::space s(gpu_, {{"x", {std::size_t{1} << 28}, 0}});
    auto x = s.zero(), y = s.zero();
    return copy_rate(s, y, x);
  }
  /// Bytes read and written per second.
  double copy_rate(const cuda::space& s, cuda::device_vector& y, const cuda::device_vector& x) {
    const auto copies = [&] {
      for (int i = 0; i < 10; ++i) s.assign(y, x);
    };
    warm_up(copies);
    double sum = 0;
    for (int i = 0; i < 5; ++i) sum += seconds(copies);
    return 5 * 10 * 8.0 * static_cast<double>(s.dimension()) / sum;
  }

  cuda::buffer random_matrix() { return random_numbers(product_size * product_size); }
  cuda::buffer random_numbers(std::size_t n) {
    const cuda::buffer floats(gpu_, 4 * n);
    cuda::buffer out(gpu_, 2 * n);
    gpu_->upload(floats.data(), noise(n, 2).data(), 4 * n);
    gpu_->cast(static_cast<const float*>(floats.data()), operand_of(out), n);
    gpu_->synchronize();
    return out;
  }
  cuda::buffer random_floats(std::size_t n) { return floats(noise(n, 2)); }
  cuda::buffer floats(const std::vector<float>& x) {
    cuda::buffer out(gpu_, 4 * x.size());
    gpu_->upload(out.data(), x.data(), out.bytes());
    return out;
  }
  static cuda::operand floats_of(const cuda::buffer& x) { return {x.data(), cuda::scalar_type::float32}; }
  template <class T>
  static T* at(const cuda::buffer& x) {
    return static_cast<T*>(x.data());
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
    warm_up(some);
    double sum = 0;
    for (int i = 0; i < 5; ++i) sum += seconds(some);
    return product_rate_ = 5 * 20 * 2.0 * product_size * product_size * product_size / sum;
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
  bool failed = false;
  try {
    bench b(gpu);
    const auto add = [&failed](const std::string& name, int iterations, auto f) {
      const auto guarded = [&failed, f](benchmark::State& state) {
        try {
          f(state);
        } catch (const std::exception& e) {
          failed = true;
          state.SkipWithError(e.what());
        }
      };
      return benchmark::RegisterBenchmark(name.c_str(), guarded)
          ->Iterations(iterations)
          ->UseManualTime()
          ->Unit(benchmark::kMillisecond);
    };
    for (const std::string what : {"copy", "scale", "axpy", "dot", "norm", "step"})
      add("vectors/" + what, 10, [&b, what](benchmark::State& state) { b.vectors(state, what); });
    add("vectors/gram", 5, [&b](benchmark::State& state) { b.gram(state); })->Arg(2)->Arg(8)->Arg(9)->Arg(16);
    add("products", 5, [&b](benchmark::State& state) { b.products(state); });
    for (const std::string size : {"0.6B", "4B"})
      for (const std::string what : {"forward", "backward"})
        add("attention/" + size + "/" + what, 10,
            [&b, size, what](benchmark::State& state) { b.attention(state, size, what); })
            ->Arg(512)
            ->Arg(1024)
            ->Arg(2048);
    add("sampling", 1, [&b](benchmark::State& state) { b.sampling(state); })->Args({1024, 256});
    add("sampling/attention", 10, [&b](benchmark::State& state) { b.decode_attention(state); });
    add("sampling/logits", 10, [&b](benchmark::State& state) { b.decode_logits(state); });
    add("sampling/draw", 10, [&b](benchmark::State& state) { b.decode_draw(state); });
    for (const std::string size : {"0.6B", "4B"})
      add("gradient/" + size, 3, [&b, size](benchmark::State& state) { b.gradient(state, size); })
          ->Arg(512)
          ->Arg(1024)
          ->Arg(2048);
    for (const std::string what : {"norm", "norm_backward", "heads", "heads_backward", "swiglu", "swiglu_backward"})
      add("gradient/layer/" + what, 10, [&b, what](benchmark::State& state) { b.layer_rows(state, what); });
    benchmark::RunSpecifiedBenchmarks();
  } catch (const std::exception& e) {
    std::fprintf(stderr, "cuda_speed: %s\n", e.what());
    failed = true;
  }
  return failed ? 1 : 0;
}
