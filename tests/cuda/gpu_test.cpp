/// What only a GPU can show: its bits, its memory, its numbers against the host double's. Ends with 77 where there is
/// none. Tags: [parity] [laws] [sampling] [bits] [memory].

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_session.hpp>
#else
#define CATCH_CONFIG_RUNNER
#endif
#include "catch.hpp"

#include <rlvr/backend/cuda/decoder.hpp>
#include <rlvr/backend/cuda/error.hpp>
#include <rlvr/backend/decoder/layout.hpp>
#include <rlvr/backend/eigen/decoder.hpp>
#include <rlvr/backend/eigen/space.hpp>
#include <rlvr/optimize/adamw.hpp>

#include "cuda/models.hpp"
#include "cuda/own_map.hpp"

namespace {

using namespace rlvr;

const std::shared_ptr<cuda::device>& gpu() {
  static const std::shared_ptr<cuda::device> out = cuda::open_device();
  return out;
}

/// A model whose products and tiles are whole ones, as in real models.
decoder::config medium(const std::string& family, std::size_t head_dim = 64) {
  decoder::config c = cuda_models::small(family, head_dim);
  c.vocab_size = 1000;
  c.hidden_size = 128;
  c.intermediate_size = 256;
  c.max_positions = 1024;
  if (!c.windows.empty()) c.windows = {100, 0};
  return c;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    (void)gpu();
  } catch (const cuda::device_error& e) {
    std::printf("skipped: %s\n", e.what());
    return 77;
  }
  return std::min(Catch::Session().run(argc, argv), 1);
}

TEST_CASE("gpu space: long vectors against double sums", "[gpu][parity]") {
  const std::size_t n = 3'000'001;
  const cuda::space s(gpu(), {{"x", {n}, 0}});
  std::vector<float> x(n), y(n), out(n);
  for (std::size_t i = 0; i < n; ++i) {
    x[i] = static_cast<float>(2 * random_key(1).uniform(i) - 1);
    y[i] = static_cast<float>(2 * random_key(2).uniform(i) - 1);
  }
  cuda::device_vector a = s.zero(), b = s.zero();
  s.upload(x, a);
  s.upload(y, b);
  double xx = 0, xy = 0;
  for (std::size_t i = 0; i < n; ++i) {
    xx += static_cast<double>(x[i]) * static_cast<double>(x[i]);
    xy += static_cast<double>(x[i]) * static_cast<double>(y[i]);
  }
  CHECK(s.dot(a, a) == Approx(xx).epsilon(1e-12));
  CHECK(s.dot(a, b) == Approx(xy).margin(1e-12 * xx));
  const std::vector<const cuda::device_vector*> both{&a, &b};
  const std::vector<double> gram = s.gram(both);
  CHECK(gram[0] == Approx(xx).epsilon(1e-12));
  CHECK(gram[1] == Approx(xy).margin(1e-12 * xx));
  s.axpy(0.37, a, b);
  s.download(b, out);
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < n; ++i)
    wrong += out[i] != static_cast<float>(static_cast<double>(y[i]) + 0.37 * static_cast<double>(x[i]));
  CHECK(wrong <= n / 1000);  // a fused product and sum rounds once where the host rounds twice
}

TEST_CASE("gpu space: adamw on the device against the CPU", "[gpu][parity]") {
  const std::size_t n = 100'003;
  const cuda::space s(gpu(), {{"x", {n}, 0}});
  const eigen::space<float> e({{"x", {n}, 0}});
  std::vector<float> values(n), got(n);
  for (std::size_t i = 0; i < n; ++i) values[i] = static_cast<float>(2 * random_key(1).uniform(i) - 1);
  cuda::device_vector theta = s.zero(), g = s.zero();
  s.upload(values, theta);
  Eigen::VectorXf expected = Eigen::Map<const Eigen::VectorXf>(values.data(), n);
  adamw ours(s, {.learning_rate = 0.01});
  adamw theirs(e, {.learning_rate = 0.01});
  for (std::uint64_t step = 0; step < 5; ++step) {
    for (std::size_t i = 0; i < n; ++i) values[i] = static_cast<float>(2 * random_key(2 + step).uniform(i) - 1);
    s.upload(values, g);
    ours.step(s, theta, g);
    const Eigen::VectorXf same = Eigen::Map<const Eigen::VectorXf>(values.data(), n);
    theirs.step(e, expected, same);
  }
  s.download(theta, got);
  double worst = 0;
  for (std::size_t i = 0; i < n; ++i)
    worst = std::max(worst, std::fabs(static_cast<double>(got[i] - expected[static_cast<Eigen::Index>(i)])));
  CHECK(worst < 1e-6);  // products and sums may be fused
}

TEST_CASE("gpu space: a map of one's own in the order of the space's other calls", "[gpu][parity]") {
  for (const std::size_t n : {1, 3, 4, 255, 100'003}) {
    const cuda::space s(gpu(), {{"x", {n}, 0}});
    std::vector<float> x(n), z(n), got(n);
    for (std::size_t i = 0; i < n; ++i) {
      x[i] = static_cast<float>(i % 97) - 40;
      z[i] = static_cast<float>(i % 31);
    }
    cuda::device_vector a = s.zero(), b = s.zero(), y = s.zero();
    s.upload(x, a);
    s.upload(z, b);
    s.axpy(2, a, y);
    negate_multiply_add(s, 0.5f, y, a, b);
    s.scale(2, y);
    s.download(y, got);
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < n; ++i) wrong += got[i] != -(4 * x[i] * x[i] + z[i]);  // exact in float
    CHECK(wrong == 0);
  }
}

TEST_CASE("gpu space: gram of any number of vectors is that of dots, with the same bits again", "[gpu][parity][bits]") {
  const std::size_t n = 500'007;
  const cuda::space s(gpu(), {{"x", {n}, 0}});
  std::vector<cuda::device_vector> x;
  for (std::uint64_t k = 0; k < 19; ++k) {
    std::vector<float> values(n);
    for (std::size_t i = 0; i < n; ++i) values[i] = static_cast<float>(2 * random_key(k).uniform(i) - 1);
    x.push_back(s.zero());
    s.upload(values, x.back());
  }
  for (const std::size_t count : {1, 2, 3, 5, 8, 11, 16, 19}) {
    std::vector<const cuda::device_vector*> some;
    for (std::size_t k = 0; k < count; ++k) some.push_back(&x[k]);
    const std::vector<double> gram = s.gram(some);
    for (std::size_t i = 0; i < count; ++i)
      for (std::size_t j = 0; j < count; ++j)
        CHECK(gram[i * count + j] == Approx(s.dot(x[i], x[j])).margin(1e-12 * static_cast<double>(n)));
    CHECK(s.gram(some) == gram);
  }
}

TEST_CASE("gpu device: vectors may lie anywhere, and their sums have the same bits everywhere", "[gpu][parity][bits]") {
  const std::size_t n = 100'003, most = 9, room = n + 4;
  const cuda::space s(gpu(), {{"x", {room}, 0}});
  std::vector<std::vector<float>> x(most, std::vector<float>(n));
  for (std::uint64_t k = 0; k < most; ++k)
    for (std::size_t i = 0; i < n; ++i) x[k][i] = static_cast<float>(2 * random_key(k).uniform(i) - 1);
  double xy = 0;
  for (std::size_t i = 0; i < n; ++i) xy += static_cast<double>(x[0][i]) * static_cast<double>(x[1][i]);
  std::vector<double> dots, grams;
  for (const std::size_t offset : {0, 1, 2, 3}) {
    INFO("moved by " << offset << " numbers");
    std::vector<cuda::device_vector> there;
    std::vector<const float*> at;
    for (std::size_t k = 0; k < most; ++k) {
      there.push_back(s.zero());
      s.upload(offset, x[k], there.back());
      at.push_back(there.back().data() + offset);
    }
    std::vector<double> sums{gpu()->dot(at[0], at[1], n)};
    const cuda::step_report kept = gpu()->step_survival(at[0], 1e-3, at[1], cuda::scalar_type::bfloat16, n);
    for (const double sum : {kept.wanted, kept.made, kept.along, kept.moved}) sums.push_back(sum);
    std::vector<double> gram(3 * 3), wide(most * most);  // two kernels
    gpu()->gram(std::span(at).first(3), n, gram.data());
    gpu()->gram(at, n, wide.data());
    CHECK(sums[0] == Approx(xy).margin(1e-12 * static_cast<double>(n)));
    CHECK(gram[1] == Approx(xy).margin(1e-12 * static_cast<double>(n)));
    CHECK(wide[1] == Approx(xy).margin(1e-12 * static_cast<double>(n)));
    gram.insert(gram.end(), wide.begin(), wide.end());
    if (offset == 0) {
      dots = sums;
      grams = gram;
    }
    CHECK(sums == dots);
    CHECK(gram == grams);

    // Nothing before and behind the vector changes.
    gpu()->axpy(0.5, at[0], there[1].data() + offset, n);
    std::vector<float> out(room);
    s.download(there[1], out);
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < room; ++i) {
      float expected = 0;
      if (i >= offset && i < offset + n)  // half of a float is a float, and the sum is rounded once either way
        expected = x[1][i - offset] + x[0][i - offset] / 2;
      wrong += out[i] != expected;
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE("gpu kernels: truncation and draws over a real vocabulary", "[gpu][parity]") {
  const std::size_t rows = 5, vocab = 151'936;
  std::vector<float> logits(rows * vocab), cut(rows * vocab);
  for (std::size_t i = 0; i < logits.size(); ++i)
    logits[i] = std::round(static_cast<float>(random_key(3).uniform(i) * 24 - 12) * 4096) / 4096;
  const cuda::space s(gpu(), {{"logits", {rows * vocab}, 0}});
  const auto kept = [&](std::uint32_t top_k, double top_p) {
    cuda::device_vector x = s.zero();
    s.upload(logits, x);
    gpu()->truncate(x.data(), static_cast<int>(rows), static_cast<int>(vocab), 1.25, static_cast<int>(top_k), top_p);
    s.download(x, cut);
    return x;
  };
  for (std::size_t row = 0; row < rows; ++row) {
    std::vector<float> sorted(logits.begin() + static_cast<std::ptrdiff_t>(row * vocab),
                              logits.begin() + static_cast<std::ptrdiff_t>((row + 1) * vocab));
    std::sort(sorted.begin(), sorted.end(), std::greater<>());
    const auto wrong = [&](float least) {
      std::size_t count = 0;
      for (std::size_t v = 0; v < vocab; ++v) {
        const float l = logits[row * vocab + v], c = cut[row * vocab + v];
        count += l >= least ? c != l : c != -std::numeric_limits<float>::infinity();
      }
      return count;
    };
    (void)kept(50, 1.0);
    CHECK(wrong(sorted[49]) == 0);
    const cuda::device_vector x = kept(0, 0.9);
    double all = 0, sum = 0;
    for (const float l : sorted) all += std::exp(1.25 * static_cast<double>(l - sorted[0]));
    std::size_t k = 0;
    while (sum < 0.9 * all) sum += std::exp(1.25 * static_cast<double>(sorted[k++] - sorted[0]));
    CHECK(wrong(sorted[k - 1]) <= k / 1000);  // the boundary may lie one rounding of the weights away

    // Draws are those of the definition over what is left, in the order of the tokens.
    const cuda::buffer memory(gpu(), 1024);
    auto* p = static_cast<cuda::row_distribution*>(memory.data());
    auto* u = reinterpret_cast<double*>(p + 1);
    auto* log_prob = u + 1;
    auto* next = reinterpret_cast<std::int32_t*>(log_prob + 1);
    const float* at = x.data() + row * vocab;
    gpu()->distributions(at, 1, static_cast<int>(vocab), 1.25, p);
    double left = 0;
    const auto weight = [&](std::int32_t v) {
      return std::exp(1.25 * static_cast<double>(cut[row * vocab + static_cast<std::size_t>(v)] - sorted[0]));
    };
    for (std::int32_t v = 0; v < static_cast<std::int32_t>(vocab); ++v) left += weight(v);
    for (const double uniform : {1e-9, 0.1, 0.37, 0.5, 0.93, 1 - 1e-9}) {
      gpu()->upload(u, &uniform, sizeof uniform);
      gpu()->draw(at, 1, static_cast<int>(vocab), 1.25, p, u, next, log_prob);
      std::int32_t got = -1;
      gpu()->download(&got, next, sizeof got);
      REQUIRE(got >= 0);
      REQUIRE(got < static_cast<std::int32_t>(vocab));
      double below = 0;
      for (std::int32_t v = 0; v < got; ++v) below += weight(v);
      CHECK(below <= (uniform + 1e-6) * left);
      CHECK(below + weight(got) >= (uniform - 1e-6) * left);
    }
  }
}

TEST_CASE("gpu device: a failed call is told with its place, and any thread may call", "[gpu][memory]") {
  CHECK_THROWS_AS(cuda::open_device(1000), cuda::device_error);
  try {
    (void)cuda::open_device(1000);
  } catch (const cuda::device_error& e) {
    CHECK_THAT(e.what(), Catch::Contains("cudaSetDevice") && Catch::Contains("gpu_device.cuh:"));
  }
  const cuda::space s(gpu(), {{"x", {1000}, 0}});
  cuda::device_vector x = s.zero();
  double sum = -1;
  std::thread([&] {
    s.upload(std::vector<float>(1000, 2.f), x);
    sum = s.dot(x, x);
  }).join();
  CHECK(sum == 4000);
}

TEST_CASE("gpu decoder: models of whole tiles against the Eigen decoder", "[gpu][parity]") {
  std::vector<std::pair<std::string, std::size_t>> models{{"qwen3", 128}};  // as Qwen3's heads are
  for (const char* family : cuda_models::families) models.emplace_back(family, 64);
  ragged<token> prompts;
  std::vector<token> words;
  for (std::uint64_t i = 0; i < 150; ++i) words.push_back(static_cast<token>(random_key(3).below(1000, i)));
  prompts.push_back(words);
  prompts.push_back(std::vector<token>(words.begin(), words.begin() + 17));
  for (const auto& [family, head_dim] : models) {
    const decoder::config c = medium(family, head_dim);
    std::vector<float> theta = cuda_models::parameters(c);
    // Weights as large as the small models' would carry bfloat16 further off than a wrong kernel may.
    for (const tensor_slot& slot : decoder::layout(c))
      if (!slot.name.ends_with("norm.weight"))
        for (float& x : std::span(theta).subspan(slot.offset, slot.size())) x /= 2;
    eigen::decoder<double> oracle(c, theta);
    const rollouts r =
        oracle.sample(prompts, std::vector<sample_request>{{0, 6, 0}, {1, 6, 0}}, {1.0, 200}, random_key(8));
    std::vector<double> coefficients(r.tokens.size());
    for (std::size_t t = 0; t < coefficients.size(); ++t) coefficients[t] = 2 * random_key(9).uniform(t) - 1;
    const token_scores expected = oracle.score(prompts, r, 1.0);
    auto e = oracle.space().zero();
    oracle.accumulate_score(prompts, r, coefficients, 1.0, e);
    for (const cuda::scalar_type compute : {cuda::scalar_type::float32, cuda::scalar_type::bfloat16}) {
      const bool exact = compute == cuda::scalar_type::float32;
      INFO(family << (exact ? " float32" : " bfloat16") << ", heads of " << head_dim);
      cuda::decoder model(gpu(), c, theta, {.compute = compute});
      const token_scores got = model.score(prompts, r, 1.0);
      double off = 0;
      for (std::size_t t = 0; t < r.tokens.size(); ++t)
        off = std::max(off, std::fabs(got.log_probs[t] - expected.log_probs[t]));
      CHECK(off < (exact ? 1e-4 : 0.2));
      auto g = model.space().zero();
      model.accumulate_score(prompts, r, coefficients, 1.0, g);
      std::vector<float> h(model.space().dimension());
      model.space().download(g, h);
      double difference = 0;
      for (std::size_t i = 0; i < h.size(); ++i) {
        const double d = static_cast<double>(h[i]) - e[static_cast<Eigen::Index>(i)];
        difference += d * d;
      }
      CHECK(std::sqrt(difference) < (exact ? 2e-4 : 0.1) * e.norm());
    }
  }
}

TEST_CASE("gpu decoder: the same bits when a call is repeated", "[gpu][bits]") {
  for (const char* family : cuda_models::families)
    for (const cuda::scalar_type compute : {cuda::scalar_type::float32, cuda::scalar_type::bfloat16}) {
      INFO(family);
      const decoder::config c = medium(family);
      cuda::decoder model(gpu(), c, cuda_models::parameters(c),
                          {.compute = compute, .micro_batch_rows = 300, .rollouts_at_once = 10});
      ragged<token> prompts;
      for (token t = 2; t < 6; ++t) prompts.push_back(std::vector<token>(static_cast<std::size_t>(10 * t), t));
      const std::vector<sample_request> requests{{0, 8, 0}, {1, 8, 0}, {3, 8, 0}};
      const auto run = [&] {
        const rollouts r = model.sample(prompts, requests, {1.0, 40}, random_key(4));
        auto g = model.space().zero();
        model.accumulate_score(prompts, r, std::vector<double>(r.tokens.size(), 0.3), 1.0, g);
        std::vector<float> h(model.space().dimension());
        model.space().download(g, h);
        return std::pair(r.log_probs, h);
      };
      const auto first = run();
      for (int again = 0; again < 3; ++again) CHECK(run() == first);
    }
}

TEST_CASE("gpu decoder: samples follow the exact distribution", "[gpu][sampling]") {
  // Tokens that come 20 times or more of 20000: each count within 7 standard deviations, false alarm below 1e-9 in all.
  const decoder::config c = cuda_models::small("qwen3");
  const std::vector<float> theta = cuda_models::parameters(c);
  cuda::decoder model(gpu(), c, theta, {.compute = cuda::scalar_type::float32});
  eigen::decoder<double> oracle(c, theta);
  ragged<token> prompts;
  prompts.push_back(std::vector<token>{5, 6, 7});
  const double n = 20000;
  const rollouts r = model.sample(prompts, std::vector<sample_request>{{0, 20000, 0}}, {0.7, 1}, random_key(10));
  std::vector<double> count(c.vocab_size, 0);
  for (const token t : r.tokens) count[static_cast<std::size_t>(t)] += 1;
  rollouts each;
  for (token t = 0; t < static_cast<token>(c.vocab_size); ++t) {
    each.tokens.push_back(t);
    each.offsets.push_back(each.tokens.size());
    each.prompts.push_back(0);
  }
  const token_scores exact = oracle.score(prompts, each, 0.7);
  for (std::size_t t = 0; t < count.size(); ++t) {
    const double p = std::exp(exact.log_probs[t]);
    if (n * p < 20) continue;
    INFO("token " << t);
    CHECK(std::fabs(count[t] - n * p) < 7 * std::sqrt(n * p * (1 - p)) + 1);
  }
}

TEST_CASE("gpu decoder: what does not fit is refused with numbers, and theta stays", "[gpu][memory]") {
  const decoder::config c = medium("qwen3");
  const std::vector<float> theta = cuda_models::parameters(c);
  cuda::decoder model(gpu(), c, theta, {.rollouts_at_once = std::size_t{1} << 21});
  ragged<token> prompts;
  prompts.push_back(std::vector<token>{2, 3});
  CHECK_THROWS_AS(model.sample(prompts, std::vector<sample_request>{{0, 1u << 21, 0}}, {1.0, 900}, random_key(1)),
                  cuda::out_of_memory);
  const rollouts r = model.sample(prompts, std::vector<sample_request>{{0, 3, 0}}, {1.0, 9}, random_key(1));
  CHECK(r.size() == 3);

  // Somebody else has nearly all of the memory: a new model that has to make room for its first pass is refused.
  cuda::decoder other(gpu(), c, theta);
  const std::vector<double> coefficients(r.tokens.size(), 0.3);
  auto g = other.space().zero();
  other.space().axpy(2, other.parameters(), g);
  std::vector<float> before(theta.size()), after(theta.size());
  other.space().download(g, before);
  {
    std::vector<cuda::buffer> others;
    for (std::size_t some = gpu()->free_bytes(); some >= 1 << 16; some /= 2) try {
        for (;;) others.emplace_back(gpu(), some);
      } catch (const cuda::out_of_memory&) {
      }
    CHECK_THROWS_AS(other.score(prompts, r, 1.0), cuda::out_of_memory);
    CHECK_THROWS_AS(other.accumulate_score(prompts, r, coefficients, 1.0, g), cuda::out_of_memory);
  }
  other.space().download(g, after);
  CHECK(after == before);
  for (cuda::decoder* p : {&model, &other}) {
    p->space().download(p->parameters(), after);
    CHECK(after == theta);
  }
  other.accumulate_score(prompts, r, coefficients, 1.0, g);
  CHECK(other.score(prompts, r, 1.0).log_probs.size() == r.tokens.size());
}
