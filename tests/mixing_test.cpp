/// The mixture of two estimators, and normalised ascent with implicit gradient transport.

#include <cmath>
#include <limits>
#include <vector>

#include <rlvr/backend/tabular/space.hpp>
#include <rlvr/core/random.hpp>
#include <rlvr/gradient/mixing.hpp>
#include <rlvr/search/normalized_igt.hpp>

#include "catch.hpp"

using namespace rlvr;

namespace {

tabular::space space_of(std::size_t n) {
  return tabular::space({tensor_slot{"x", {n}, 0}});
}

}  // namespace

TEST_CASE("mixing_weight is the best on a grid", "[gradient]") {
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    const random_key key(seed);
    // Errors with three equally likely outcomes: moments by enumeration, biases and correlation included.
    double x[3][2], y[3][2];
    for (std::uint64_t k = 0; k < 3; ++k)
      for (std::uint64_t j = 0; j < 2; ++j) {
        x[k][j] = 2 * key.uniform(k, static_cast<std::uint32_t>(j)) - 0.7;
        y[k][j] = 0.5 * x[k][j] * key.uniform(9) + key.uniform(k, static_cast<std::uint32_t>(j), 1) - 0.4;
      }
    const auto mean = [&](auto f) { return (f(0) + f(1) + f(2)) / 3; };
    const auto error = [&](double a) {
      return mean([&](int k) {
        double sum = 0;
        for (int j = 0; j < 2; ++j) sum += std::pow(a * x[k][j] + (1 - a) * y[k][j], 2);
        return sum;
      });
    };
    const double cross = mean([&](int k) { return x[k][0] * y[k][0] + x[k][1] * y[k][1]; });
    const double a = mixing_weight({.first = error(1), .second = error(0), .cross = cross});
    for (int i = 0; i <= 1000; ++i) CHECK(error(a) <= error(i / 1000.0) + 1e-12);
  }
  CHECK(mixing_weight({.first = 2, .second = 2, .cross = 2}) == 0.5);
  CHECK(mixing_weight({.first = 1, .second = 0, .cross = 0}) == 0);
  CHECK(mixing_weight({.first = 0, .second = 1, .cross = 0}) == 1);
  CHECK(mixing_weight({.first = 4, .second = 1, .cross = 1.9}) == 0);  // clipped
  // Variances 1 and 3, no covariance, biases (0, 0) and (1, 1).
  CHECK(mixing_weight({second_moment(1, 0), second_moment(3, 2), second_moment(0, 0)}) == Approx(5 / 6.0));
  CHECK_THROWS_WITH(mixing_weight({.first = -1}), Catch::Contains("first is -1"));
  CHECK_THROWS_WITH(mixing_weight({.first = 1, .second = 1, .cross = 2}), Catch::Contains("cross is 2"));
  CHECK_THROWS_WITH(mixing_weight({.second = std::nan("")}), Catch::Contains("second is nan"));
  // Moments of any size: products of them neither overflow nor vanish.
  CHECK(mixing_weight({.first = 1.7e308, .second = 1.7e308}) == 0.5);
  CHECK(mixing_weight({.first = 3e-200, .second = 1e-200}) == Approx(0.25));
  CHECK_THROWS_WITH(mixing_weight({.first = 1e-200, .second = 1e-200, .cross = 1e-199}),
                    Catch::Contains("cross is 1e-199"));
}

TEST_CASE("mix is the convex combination", "[gradient]") {
  const tabular::space space = space_of(3);
  const std::vector<double> x{1, 2, 3};
  std::vector<double> y{-1, 0, 5};
  mix(space, 0.25, x, y);
  CHECK(y == std::vector<double>{-0.5, 0.5, 4.5});
  CHECK_THROWS_WITH(mix(space, 1.5, x, y), Catch::Contains("the weight is 1.5"));
}

TEST_CASE("normalized_igt: steps of one length, and a mean of gradients at the current point", "[search]") {
  // A quadratic objective -x'Dx/2: its gradients are linear, so that d is the gradient at theta plus the mean noise.
  const tabular::space space = space_of(2);
  const double diagonal[2] = {1, 3}, eta = 0.25, gamma = 0.05;
  normalized_igt igt(space, {.momentum = eta, .learning_rate = gamma});
  std::vector<double> theta{1, -2}, x(2), g(2), before(2), noise(2);
  const random_key key(3);
  for (std::uint32_t step = 0; step < 60; ++step) {
    igt.point(space, theta, x);
    if (step == 0) CHECK(x == theta);
    std::vector<double> direction(2);
    for (std::size_t j = 0; j < 2; ++j) {
      const double e = key.uniform(j, step) - 0.5;
      noise[j] = step == 0 ? e : (1 - eta) * noise[j] + eta * e;
      g[j] = -diagonal[j] * x[j] + e;
      direction[j] = -diagonal[j] * theta[j] + noise[j];
    }
    before = theta;
    REQUIRE(igt.step(space, theta, g) == igt_status::moved);
    const double length = std::hypot(direction[0], direction[1]);
    for (std::size_t j = 0; j < 2; ++j)
      CHECK(theta[j] - before[j] == Approx(gamma * direction[j] / length).margin(1e-12));
  }
  CHECK(igt.steps() == 60);
  CHECK(std::hypot(theta[0], theta[1]) < 0.6);
}

TEST_CASE("normalized_igt: what is no direction does not move", "[search]") {
  const tabular::space space = space_of(2);
  normalized_igt igt(space), twin(space);
  std::vector<double> theta{1, 2}, other{1, 2}, x(2), y(2);
  const std::vector<double> up{1, 0};
  CHECK(igt.step(space, theta, std::vector<double>{0, 0}) == igt_status::no_direction);
  CHECK(theta == std::vector<double>{1, 2});
  CHECK(igt.step(space, theta, up) == igt_status::moved);
  CHECK(twin.step(space, other, up) == igt_status::moved);
  CHECK(igt.step(space, theta, std::vector<double>{std::nan(""), 0}) == igt_status::no_direction);
  CHECK(igt.step(space, theta, std::vector<double>{std::numeric_limits<double>::infinity(), 0}) ==
        igt_status::no_direction);
  CHECK(theta == other);
  igt.point(space, theta, x);
  twin.point(space, other, y);
  CHECK(x == y);
  CHECK_THROWS_WITH(normalized_igt(space, {.momentum = 0}), Catch::Contains("momentum is 0"));
  CHECK_THROWS_WITH(normalized_igt(space, {.learning_rate = -1}), Catch::Contains("learning_rate is -1"));
}
