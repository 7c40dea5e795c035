/// How fast rlvr::cuda is on this GPU, as shares of what the GPU can do, both measured here: vectors of the copy
/// bandwidth, a gradient pass of the rate of large matrix products, sampling of the bandwidth bound of a decode step.
///   cuda_speed vectors | gradient [0.6B|4B] [length] | sampling [rollouts] [tokens]

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include <rlvr/backend/cuda/decoder.hpp>

namespace {

using namespace rlvr;

/// The shortest of some runs, in seconds, after one that does not count.
template <class F>
double seconds(cuda::device& d, F f, int runs = 5) {
  double best = 1e30;
  for (int i = 0; i <= runs; ++i) {
    d.synchronize();
    const auto begin = std::chrono::steady_clock::now();
    f();
    d.synchronize();
    const double spent = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    if (i > 0) best = std::min(best, spent);
  }
  return best;
}

/// The shapes of Qwen3.
decoder::config shape(const std::string& size) {
  decoder::config c;
  const bool small = size == "0.6B";
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

cuda::decoder model_of(const std::shared_ptr<cuda::device>& gpu, const decoder::config& c) {
  std::vector<float> theta(decoder::parameter_count(decoder::layout(c)));
  std::uint32_t state = 1;
  for (float& x : theta) {
    state = state * 1664525u + 1013904223u;
    x = (static_cast<float>(state >> 8) * 0x1p-24f - 0.5f) * 0.07f;
  }
  for (const tensor_slot& t : decoder::layout(c))
    if (t.name.ends_with("norm.weight"))
      std::fill_n(theta.begin() + static_cast<std::ptrdiff_t>(t.offset), t.size(), 1.f);
  return cuda::decoder(gpu, c, theta, {});
}

std::vector<token> words(std::size_t n, std::uint64_t seed) {
  std::vector<token> out(n);
  for (std::size_t i = 0; i < n; ++i) out[i] = static_cast<token>(random_key(seed).below(150000, i));
  return out;
}

double copy_rate(const cuda::space& s, cuda::device_vector& y, const cuda::device_vector& x) {
  const double bytes = 8.0 * static_cast<double>(s.dimension());
  return bytes / seconds(*s.where(), [&] { s.assign(y, x); });
}

void vectors(const std::shared_ptr<cuda::device>& gpu) {
  const std::size_t n = std::size_t{1} << 28;
  const cuda::space s(gpu, {{"x", {n}, 0}});
  cuda::device_vector x = s.zero(), y = s.zero(), z = s.zero();
  const cuda::buffer weights(gpu, 2 * n);
  const double copy = copy_rate(s, y, x);
  std::printf("copy      %8.1f GB/s\n", copy / 1e9);
  const auto show = [&](const char* name, double bytes_each, double spent) {
    const double rate = bytes_each * static_cast<double>(n) / spent;
    std::printf("%-9s %8.1f GB/s  %5.2f of copy\n", name, rate / 1e9, rate / copy);
  };
  show("scale", 8, seconds(*gpu, [&] { s.scale(1.0, y); }));
  show("axpy", 12, seconds(*gpu, [&] { s.axpy(0.5, x, y); }));
  show("dot", 8, seconds(*gpu, [&] { (void)s.dot(x, y); }));
  show("step", 14, seconds(*gpu, [&] {
         gpu->step(x.data(), 0.1, y.data(), z.data(), static_cast<cuda::bfloat16*>(weights.data()), n);
       }));
  std::vector<cuda::device_vector> more;
  std::vector<const cuda::device_vector*> all;
  for (int i = 0; i < 8; ++i) more.push_back(s.zero());
  for (const cuda::device_vector& v : more) all.push_back(&v);
  show("gram of 8", 32, seconds(*gpu, [&] { (void)s.gram(all); }));
}

void gradient(const std::shared_ptr<cuda::device>& gpu, const std::string& size, std::size_t length) {
  const decoder::config c = shape(size);
  // The rate of products, of a shape that fills the GPU.
  const std::int64_t m = 8192;
  const cuda::buffer a(gpu, 2 * m * m), b(gpu, 2 * m * m), out(gpu, 2 * m * m);
  const auto of = [](const cuda::buffer& x) { return cuda::operand{x.data(), cuda::scalar_type::bfloat16}; };
  gpu->clear(a.data(), a.bytes());
  gpu->clear(b.data(), b.bytes());
  const double products =
      2.0 * m * m * m / seconds(*gpu, [&] {
        gpu->multiply(cuda::product_form::nt, m, m, m, of(a), of(b), of(out), cuda::result_mode::assign);
      });
  cuda::decoder model = model_of(gpu, c);
  ragged<token> prompts;
  rollouts r;
  for (std::uint32_t i = 0; i < 32768 / length; ++i) {
    prompts.push_back(words(length / 4, i));
    const std::vector<token> completion = words(length - length / 4, 1000 + i);
    r.tokens.insert(r.tokens.end(), completion.begin(), completion.end());
    r.offsets.push_back(r.tokens.size());
    r.prompts.push_back(i);
  }
  auto g = model.space().zero();
  const std::vector<double> coefficients(r.tokens.size(), 0.1);
  const double spent = seconds(
      *gpu, [&] { model.accumulate_score(prompts, r, coefficients, 1.0, g); }, 3);
  const double tokens = static_cast<double>(r.size() * length);
  const double pairs = tokens * static_cast<double>(length) / 2 * static_cast<double>(c.layers * c.heads * c.head_dim);
  const double flops = 6 * static_cast<double>(model.space().dimension()) * tokens + 12 * pairs;
  std::printf("%s, %zu sequences of %zu: %.0f tokens/s, %.3f of the %.0f TFLOP/s of products, %zu rows a micro-batch\n",
              size.c_str(), r.size(), length, tokens / spent, flops / spent / products, products / 1e12,
              model.plan().rows);
}

void sampling(const std::shared_ptr<cuda::device>& gpu, std::uint32_t count, std::uint32_t length) {
  const decoder::config c = shape("0.6B");
  cuda::decoder model = model_of(gpu, c);
  auto x = model.space().zero(), y = model.space().zero();
  const double copy = copy_rate(model.space(), y, x);
  ragged<token> prompts;
  std::vector<sample_request> requests;
  const std::size_t prompt = 128;
  for (std::uint32_t i = 0; i < count / 16; ++i) {
    prompts.push_back(words(prompt, i));
    requests.push_back({i, 16, 0});
  }
  std::size_t tokens = 0;
  const double spent = seconds(
      *gpu,
      [&] {
        tokens = model.sample(prompts, requests, {1.0, length}, random_key(1)).tokens.size();
      },
      1);
  // A step reads the weights, and for every rollout its cache: the prompt's part and half of its own on average.
  const double cache = 2.0 * 2.0 * static_cast<double>(c.layers * c.kv_heads * c.head_dim);
  const double step = 2.0 * static_cast<double>(model.space().dimension()) +
                      static_cast<double>(count) * cache * (static_cast<double>(prompt) + length / 2.0);
  std::printf("%u rollouts of up to %u tokens: %.0f tokens/s, %.3f of the bandwidth bound, %zu at once\n", count,
              length, static_cast<double>(tokens) / spent, step * length / copy / spent, model.plan().slots);
}

}  // namespace

int main(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "vectors", first = argc > 2 ? argv[2] : "";
  const auto number = [&](int i, unsigned long otherwise) {
    return argc > i ? std::strtoul(argv[i], nullptr, 10) : otherwise;
  };
  try {
    const std::shared_ptr<cuda::device> gpu = cuda::open_device();
    if (what == "vectors")
      vectors(gpu);
    else if (what == "gradient")
      gradient(gpu, first.empty() ? "0.6B" : first, number(3, 1024));
    else if (what == "sampling")
      sampling(gpu, static_cast<std::uint32_t>(number(2, 1024)), static_cast<std::uint32_t>(number(3, 256)));
    else
      return std::printf("vectors, gradient or sampling\n"), 2;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
}
