/// Normalised ascent with implicit gradient transport: the written recursion, and what transport is for.

#include <cmath>
#include <cstddef>
#include <stdexcept>
#include <string>
#include <vector>

#include <rlvr/backend/tabular/policy.hpp>
#include <rlvr/backend/tabular/space.hpp>
#include <rlvr/core/random.hpp>
#include <rlvr/laws/optimizer.hpp>
#include <rlvr/search/normalized_igt.hpp>

#include "archetypes.hpp"
#include "catch.hpp"

using namespace rlvr;

namespace {

using vec = std::vector<double>;

/// Without the status, as optimizers are called.
template <class S>
struct as_optimizer {
  normalized_igt<S> inner;
  void step(const S& space, vector_t<S>& theta, const vector_t<S>& g, double factor) {
    (void)inner.step(space, theta, g, factor);
  }
};

/// The gradient of -(x - c)' A (x - c) / 2 with a full A.
vec quadratic_gradient(const vec& x) {
  const double c[3] = {0.5, -1, 2}, A[3][3] = {{2, 0.5, -0.3}, {0.5, 1, 0.2}, {-0.3, 0.2, 3}};
  vec g(3);
  for (std::size_t i = 0; i < 3; ++i)
    for (std::size_t j = 0; j < 3; ++j) g[i] -= A[i][j] * (x[j] - c[j]);
  return g;
}

}  // namespace

TEST_CASE("normalized_igt is the written recursion", "[search]") {
  const tabular::space space(3);
  const random_key key(4);
  for (const normalized_igt_options& o : {normalized_igt_options{.momentum = 0.25, .learning_rate = 0.05},
                                          {.momentum = 1, .learning_rate = 0.1, .decay = 0.8},
                                          {.momentum = 1, .learning_rate = 0.1},
                                          {.momentum = 0.5, .learning_rate = 0.02, .decay = 0.3}}) {
    normalized_igt igt(space, o);
    vec theta{1, 2, 3}, before = theta, d(3), written = theta, x(3);
    for (std::uint32_t t = 0; t < 50; ++t) {
      const double eta = t == 0 ? 1 : o.momentum * std::pow(2 / (t + 2.0), o.decay), factor = 1 / (1 + 0.1 * t);
      CHECK(igt.eta() == Approx(eta));
      vec ahead(3), g(3);
      for (std::size_t i = 0; i < 3; ++i) {
        ahead[i] = written[i] + (1 - eta) / eta * (written[i] - before[i]);
        g[i] = std::sin(ahead[i]) + key.uniform(i, t) - 0.3;
        d[i] = (1 - eta) * d[i] + eta * g[i];
      }
      before = written;
      const double length = std::sqrt(d[0] * d[0] + d[1] * d[1] + d[2] * d[2]);
      for (std::size_t i = 0; i < 3; ++i) written[i] += o.learning_rate * factor * d[i] / length;

      igt.point(space, theta, x);
      vec seen(3);
      for (std::size_t i = 0; i < 3; ++i) {
        CHECK(x[i] == Approx(ahead[i]).margin(1e-9));
        seen[i] = std::sin(x[i]) + key.uniform(i, t) - 0.3;
      }
      REQUIRE(igt.step(space, theta, seen, factor) == igt_status::moved);
      for (std::size_t i = 0; i < 3; ++i) CHECK(theta[i] == Approx(written[i]).margin(1e-9));
    }
  }
}

TEST_CASE("On a quadratic, normalized_igt with exact gradients goes along the gradient", "[search]") {
  const tabular::space space(3);
  for (const double decay : {0.0, 0.8}) {
    normalized_igt igt(space, {.momentum = 0.3, .learning_rate = 0.04, .decay = decay});
    vec theta{4, 4, -4}, x(3);
    for (int t = 0; t < 80; ++t) {
      const vec g = quadratic_gradient(theta), before = theta;
      igt.point(space, theta, x);
      REQUIRE(igt.step(space, theta, quadratic_gradient(x)) == igt_status::moved);
      const double length = norm(space, g);
      // Old gradients are transported without error; a plain average of gradients would lag behind.
      for (std::size_t i = 0; i < 3; ++i) CHECK(theta[i] - before[i] == Approx(0.04 * g[i] / length).margin(1e-10));
    }
  }
}

TEST_CASE("Transport beats plain normalised momentum under noise", "[search]") {
  // Independent of each other: 40 runs each, the same noise. The mean distance to the optimum after 300 steps.
  const tabular::space space(3);
  double transported = 0, plain = 0;
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    const random_key key(seed);
    for (const bool ahead : {true, false}) {
      normalized_igt igt(space, {.momentum = 0.03, .learning_rate = 0.05});
      vec theta{4, 4, -4}, x(3);
      for (std::uint32_t t = 0; t < 300; ++t) {
        igt.point(space, theta, x);
        vec g = quadratic_gradient(ahead ? x : theta);
        for (std::size_t i = 0; i < 3; ++i) g[i] += 7 * (key.uniform(i, t) - 0.5);
        REQUIRE(igt.step(space, theta, g) == igt_status::moved);
      }
      (ahead ? transported : plain) += std::hypot(theta[0] - 0.5, theta[1] + 1, theta[2] - 2) / 40;
    }
  }
  CHECK(transported < 0.75 * plain);
}

TEST_CASE("normalized_igt keeps the laws of optimizers", "[search]") {
  for (const normalized_igt_options& o : {normalized_igt_options{}, {.momentum = 1, .decay = 0.8}, {.momentum = 1}}) {
    const tabular::space host(7);
    const auto fill = [](vec& v, std::size_t index) {
      for (std::size_t i = 0; i < v.size(); ++i) v[i] = 2 * random_key(50 + index).uniform(i) - 1;
    };
    for (const std::string& broken : laws::optimizer_laws(
             host, [&] { return as_optimizer<tabular::space>{normalized_igt<tabular::space>(host, o)}; }, fill))
      FAIL_CHECK(broken);
    // Vectors that the host cannot read.
    const archetype::space device(7);
    const auto fill_device = [&](archetype::vector& v, std::size_t index) {
      vec values(7);
      fill(values, index);
      v = device.from_host(values);
    };
    for (const std::string& broken : laws::optimizer_laws(
             device, [&] { return as_optimizer<archetype::space>{normalized_igt<archetype::space>(device, o)}; },
             fill_device))
      FAIL_CHECK(broken);
  }
  const tabular::space space(1);
  CHECK_THROWS_WITH(normalized_igt(space, {.decay = -1}), Catch::Contains("decay is -1"));
  CHECK_THROWS_WITH(normalized_igt(space, {.decay = std::nan("")}), Catch::Contains("decay is nan"));
}

TEST_CASE("at_evaluation_point puts the policy there and back", "[search]") {
  tabular::policy policy(vec{0.3, -0.1, 0.5, 0.2, 0.9, -0.7}, 3);
  const auto& space = policy.space();
  const vec weights{1, 0, 0, 0, 0.5, 0};
  normalized_igt igt(space, {.momentum = 0.2, .learning_rate = 0.3});
  double before = policy.expectation(weights);
  for (int t = 0; t < 20; ++t) {
    const vec theta = policy.parameters();
    vec x(6);
    igt.point(space, theta, x);
    const vec g = at_evaluation_point(policy, igt, [&] {
      CHECK(policy.parameters() == x);
      return policy.expectation_gradient(weights);
    });
    CHECK(policy.parameters() == theta);
    CHECK((x == theta) == (t == 0));
    vec moved = theta;
    REQUIRE(igt.step(space, moved, g) == igt_status::moved);
    policy.assign(moved);
  }
  CHECK(policy.expectation(weights) > before + 0.5);

  const vec theta = policy.parameters();
  CHECK_THROWS_AS(at_evaluation_point(policy, igt, [] { throw std::runtime_error("full"); }), std::runtime_error);
  CHECK(policy.parameters() == theta);
}
