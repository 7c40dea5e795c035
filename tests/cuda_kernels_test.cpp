/// The CUDA kernels on the GPU's host double against plain double loops.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include <rlvr/backend/cuda/host_device.cuh>
#include <rlvr/backend/cuda/space.hpp>
#include <rlvr/core/random.hpp>

#include "catch.hpp"

namespace {

using namespace rlvr;

std::vector<float> random_floats(std::size_t n, std::uint64_t seed) {
  std::vector<float> out(n);
  for (std::size_t i = 0; i < n; ++i) out[i] = static_cast<float>(2 * random_key(seed).uniform(i) - 1);
  return out;
}

cuda::space space_of(std::size_t n) {
  return {std::make_shared<cuda::host_device>(), {{"x", {n}, 0}}};
}
cuda::device_vector vector_of(const cuda::space& s, const std::vector<float>& x) {
  cuda::device_vector out = s.zero();
  s.upload(x, out);
  return out;
}

}  // namespace

TEST_CASE("cuda bfloat16: rounds to nearest, ties to even", "[cuda]") {
  const auto rounded = [](float x) { return static_cast<float>(cuda::bfloat16(x)); };
  CHECK(rounded(1.f) == 1.f);
  CHECK(rounded(1.f + 0x1p-8f) == 1.f);                // a tie, down to even
  CHECK(rounded(1.f + 3 * 0x1p-8f) == 1.f + 0x1p-6f);  // a tie, up to even
  CHECK(rounded(1.f + 0x1.01p-8f) == 1.f + 0x1p-7f);
  CHECK(rounded(-3.1415926f) == -3.140625f);
  CHECK(rounded(std::numeric_limits<float>::max()) == std::numeric_limits<float>::infinity());
  CHECK(std::isnan(rounded(std::numeric_limits<float>::quiet_NaN())));
  std::uint32_t bits = 0x7f800001u;  // a NaN whose upper half alone would be infinity
  float x;
  std::memcpy(&x, &bits, 4);
  CHECK(std::isnan(rounded(x)));
}

TEST_CASE("cuda space: dot and gram are double sums over any length", "[cuda]") {
  for (const std::size_t n : {1, 255, 257, 16384, 16385, 70001}) {
    const cuda::space s = space_of(n);
    std::vector<std::vector<float>> host;
    std::vector<cuda::device_vector> x;
    std::vector<const cuda::device_vector*> all;
    for (std::uint64_t k = 0; k < 16; ++k) {
      host.push_back(random_floats(n, k));
      x.push_back(vector_of(s, host.back()));
    }
    for (const cuda::device_vector& v : x) all.push_back(&v);
    for (const std::size_t count : {1, 3, 16}) {
      const std::vector<double> gram = s.gram(std::span(all).first(count));
      for (std::size_t i = 0; i < count; ++i)
        for (std::size_t j = 0; j < count; ++j) {
          double expected = 0;
          for (std::size_t c = 0; c < n; ++c)
            expected += static_cast<double>(host[i][c]) * static_cast<double>(host[j][c]);
          CHECK(gram[i * count + j] == Approx(expected).margin(1e-12 * static_cast<double>(n)));
          if (i == 0) CHECK(s.dot(x[0], x[j]) == Approx(expected).margin(1e-12 * static_cast<double>(n)));
        }
    }
    all.push_back(&x[0]);
    CHECK_THROWS_WITH(s.gram(all), Catch::Contains("17 vectors"));
  }
}

TEST_CASE("cuda space: what survives the rounding of weights to bfloat16", "[cuda]") {
  const std::size_t n = 5000;
  const cuda::space s = space_of(n);
  std::vector<float> theta(n), d = random_floats(n, 2);
  for (std::size_t i = 0; i < n; ++i) theta[i] = 1.f + 0.5f * static_cast<float>(i % 2);
  const cuda::device_vector t = vector_of(s, theta), g = vector_of(s, d);
  const cuda::step_report none = s.survival(t, 1e-4, g), all = s.survival(t, 0.5, g);
  CHECK(none.moved == 0);
  CHECK(none.made == 0);
  CHECK(none.wanted == Approx(1e-8 * s.dot(g, g)));
  CHECK(all.moved > 0.98 * n);
  CHECK(all.along == Approx(all.wanted).epsilon(0.01));
  CHECK(all.made == Approx(all.wanted).epsilon(0.01));
}

TEST_CASE("cuda kernels: distributions, draws and gradients over the vocabulary", "[cuda]") {
  cuda::host_device d;
  const float inf = std::numeric_limits<float>::infinity();
  for (const std::size_t vocab : {1, 2, 300, 5001}) {
    std::vector<float> logits = random_floats(3 * vocab, 7);
    for (std::size_t v = 0; v < vocab; ++v) {
      logits[v] *= 30;                                       // a peaked row
      if (vocab > 2 && v % 3) logits[2 * vocab + v] = -inf;  // a truncated row
    }
    const double inverse = 1 / 0.7;
    std::vector<cuda::row_distribution> p(3);
    d.distributions(logits.data(), 3, static_cast<int>(vocab), inverse, p.data());
    for (std::size_t row = 0; row < 3; ++row) {
      std::vector<double> probability(vocab);
      double top = -inf, sum = 0, entropy = 0;
      for (std::size_t v = 0; v < vocab; ++v)
        top = std::max(top, static_cast<double>(logits[row * vocab + v]) * inverse);
      for (std::size_t v = 0; v < vocab; ++v)
        sum += probability[v] = std::exp(static_cast<double>(logits[row * vocab + v]) * inverse - top);
      for (double& q : probability) {
        q /= sum;
        if (q > 0) entropy -= q * std::log(q);
      }
      CHECK(p[row].top == Approx(top).epsilon(1e-6));
      CHECK(std::log(p[row].sum) == Approx(std::log(sum)).margin(1e-5));
      CHECK(p[row].entropy == Approx(entropy).margin(1e-5));

      // Draws at the middle of tokens' intervals.
      double below = 0;
      for (std::size_t v = 0; v < vocab; ++v) {
        const double u = below + probability[v] / 2;
        below += probability[v];
        if (probability[v] < 1e-5) continue;
        std::int32_t next = -1;
        double log_prob = 0;
        d.draw(logits.data() + row * vocab, 1, static_cast<int>(vocab), inverse, &p[row], &u, &next, &log_prob);
        CHECK(next == static_cast<std::int32_t>(v));
        CHECK(log_prob == Approx(std::log(probability[v])).margin(2e-5));
      }
      for (const double u : {0x1p-54, 1 - 0x1p-54}) {
        std::int32_t next = -1;
        double log_prob = 0;
        d.draw(logits.data() + row * vocab, 1, static_cast<int>(vocab), inverse, &p[row], &u, &next, &log_prob);
        REQUIRE(next >= 0);
        REQUIRE(next < static_cast<std::int32_t>(vocab));
        CHECK(probability[static_cast<std::size_t>(next)] > 0);
      }

      std::vector<std::int32_t> begin{0, 2}, next{0, static_cast<std::int32_t>(vocab) - 1};
      if (vocab == 1) begin[1] = 1;
      const std::vector<double> c{0.5, -2};
      const double total = vocab == 1 ? c[0] : c[0] + c[1];
      std::vector<float> gradient(vocab);
      d.edge_gradient(logits.data() + row * vocab, 1, static_cast<int>(vocab), inverse, &p[row], begin.data(),
                      next.data(), c.data(), {gradient.data(), cuda::scalar_type::float32});
      for (std::size_t v = 0; v < vocab; ++v) {
        double expected = -total * probability[v];
        if (v == 0) expected += c[0];
        if (vocab > 1 && v + 1 == vocab) expected += c[1];
        CHECK(static_cast<double>(gradient[v]) == Approx(expected * inverse).margin(1e-5));
      }
    }
  }
}

TEST_CASE("cuda kernels: truncation keeps ties together and never everything out", "[cuda]") {
  cuda::host_device d;
  const float inf = std::numeric_limits<float>::infinity();
  const auto cut = [&](std::vector<float> logits, int k, double top_p) {
    d.truncate(logits.data(), 1, static_cast<int>(logits.size()), 1.0, k, top_p);
    std::string kept;
    for (const float l : logits) kept += l == -inf ? '.' : 'x';
    return kept;
  };
  const std::vector<float> logits{1, 3, 2, -1, 2, -5};
  CHECK(cut(logits, 0, 1.0) == "xxxxxx");
  CHECK(cut(logits, 1, 1.0) == ".x....");
  CHECK(cut(logits, 2, 1.0) == ".xx.x.");
  CHECK(cut(logits, 3, 1.0) == ".xx.x.");
  CHECK(cut(logits, 4, 1.0) == "xxx.x.");
  CHECK(cut(logits, 100, 1.0) == "xxxxxx");
  CHECK(cut(logits, 0, 1e-9) == ".x....");
  CHECK(cut(logits, 0, 0.54) == ".xx.x.");  // e^3 is 0.529 of the sum
  CHECK(cut(logits, 0, 0.52) == ".x....");
  CHECK(cut(logits, 2, 0.51) == ".x....");
}
