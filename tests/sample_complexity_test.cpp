/// The sample bound where everything is known: quadratics, with and without noise, and the tabular policy.

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include <rlvr/backend/tabular/policy.hpp>
#include <rlvr/core/random.hpp>
#include <rlvr/diagnose/sample_complexity.hpp>

#include "catch.hpp"

using namespace rlvr;

namespace {

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();
constexpr double infinity = std::numeric_limits<double>::infinity();

/// J(x) = -1/2 sum_i h_i x_i^2: J* = 0, |grad J|^2 >= 2 min(h) Delta, L = max(h).
struct quadratic {
  std::vector<double> h, x;
  double gap() const {
    double sum = 0;
    for (std::size_t i = 0; i < h.size(); ++i) sum += h[i] * x[i] * x[i] / 2;
    return sum;
  }
  double squared_norm() const {
    double sum = 0;
    for (std::size_t i = 0; i < h.size(); ++i) sum += h[i] * h[i] * x[i] * x[i];
    return sum;
  }
  void ascend(double step) {
    for (std::size_t i = 0; i < h.size(); ++i) x[i] -= step * h[i] * x[i];
  }
};

}  // namespace

TEST_CASE("one curvature: the bound is exact") {
  // Every step takes the gap to (1 - eta h)^2 of itself, and 1 - 2 h eta (1 - eta h / 2) is the same number.
  for (double h : {0.1, 1.0, 7.0})
    for (double share : {0.01, 0.3, 0.9, 1.7}) {
      const double step = share / h;
      const local_ascent a{.gradient_domination = 2 * h, .smoothness = h, .step = step};
      quadratic q{{h}, {3}};
      const double start = q.gap(), target = start / 1000;
      const sample_bound bound = samples_to_gap(a, start, target, 64);
      CHECK(1 - bound.rate == Approx((1 - share) * (1 - share)));
      CHECK(bound.noise_floor == 0);
      double steps = 0;
      for (; q.gap() > target; ++steps) q.ascend(step);
      CHECK(bound.steps == steps);
      CHECK(bound.rollouts == 64 * steps);
      CHECK(bound.log_bound >= bound.steps - 1);
      CHECK(bound.log_bound == Approx(std::log(1000) / bound.rate));
    }
  // eta = 1 / L with c = 2 L arrives in one step.
  CHECK(samples_to_gap({2, 1, 1}, 5, 1e-300, 8).steps == 1);
}

TEST_CASE("many curvatures: the bound suffices, and the slowest direction needs it") {
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    const random_key key(seed);
    quadratic q;
    for (std::size_t i = 0; i < 5; ++i) {
      q.h.push_back(0.1 + 3 * key.uniform(i));
      q.x.push_back(2 * key.uniform(i, 1) - 1);
    }
    const double least = *std::min_element(q.h.begin(), q.h.end()), largest = *std::max_element(q.h.begin(), q.h.end());
    const double step = 1.9 * key.uniform(9) / largest;
    const double start = q.gap(), target = start * 0.01 * key.uniform(10);
    const sample_bound bound = samples_to_gap({2 * least, largest, step}, start, target, 1);
    double steps = 0;
    for (; q.gap() > target; ++steps) q.ascend(step);
    CHECK(steps <= bound.steps);
  }
}

TEST_CASE("with noise the expected gap follows the recursion down to the floor") {
  // E Delta' = (1 - eta h)^2 Delta + h eta^2 noise / 2, exactly, for one curvature h = L = c / 2.
  const double h = 2, step = 0.1, noise = 0.5;
  const local_ascent a{2 * h, h, step, noise};
  const double target = 0.02;
  const sample_bound bound = samples_to_gap(a, 4, target, 10);
  double gap = 4, steps = 0;
  for (; gap > target; ++steps) gap = (1 - step * h) * (1 - step * h) * gap + h * step * step * noise / 2;
  CHECK(bound.steps == steps);
  CHECK(bound.log_bound >= bound.steps - 1);
  for (int i = 0; i < 1000; ++i) gap = (1 - step * h) * (1 - step * h) * gap + h * step * step * noise / 2;
  CHECK(bound.noise_floor == Approx(gap));

  const sample_bound never = samples_to_gap(a, 4, bound.noise_floor, 10);
  CHECK(never.steps == infinity);
  CHECK(never.rollouts == infinity);
  CHECK(never.log_bound == infinity);
  CHECK(samples_to_gap(a, 4, bound.noise_floor * 1.0001, 10).steps < 100);
  // A larger batch lowers the floor in proportion; so does a smaller step, nearly.
  CHECK(samples_to_gap({2 * h, h, step, noise / 4}, 4, target, 40).noise_floor == Approx(bound.noise_floor / 4));
  CHECK(samples_to_gap({2 * h, h, step / 2, noise}, 4, target, 40).noise_floor < bound.noise_floor * 0.55);
}

TEST_CASE("nothing to do, and what is refused") {
  const local_ascent a{1, 1, 0.5, 0.1};
  CHECK(samples_to_gap(a, 0.1, 0.1, 8).steps == 0);
  CHECK(samples_to_gap(a, 0, 0.1, 8).rollouts == 0);
  CHECK(samples_to_gap(a, 1e-9, 1e-8, 8).steps == 0);  // already there, though below the floor

  CHECK_THROWS_WITH(samples_to_gap({0, 1, 0.5}, 1, 0.1, 8), Catch::Contains("gradient_domination is 0"));
  CHECK_THROWS_WITH(samples_to_gap({2.1, 1, 0.5}, 1, 0.1, 8),
                    Catch::Contains("gradient_domination is 2.1") && Catch::Contains("= 2]"));
  CHECK_THROWS_WITH(samples_to_gap({not_a_number, 1, 0.5}, 1, 0.1, 8), Catch::Contains("gradient_domination is"));
  CHECK_THROWS_WITH(samples_to_gap({1, 0, 0.5}, 1, 0.1, 8), Catch::Contains("smoothness is 0"));
  CHECK_THROWS_WITH(samples_to_gap({1, infinity, 0.5}, 1, 0.1, 8), Catch::Contains("smoothness is inf"));
  CHECK_THROWS_WITH(samples_to_gap({1, 1, 2}, 1, 0.1, 8),
                    Catch::Contains("step is 2, outside (0, 2 / smoothness = 2)"));
  CHECK_THROWS_WITH(samples_to_gap({1, 1, 0}, 1, 0.1, 8), Catch::Contains("step is 0"));
  CHECK_THROWS_WITH(samples_to_gap({1, 1, 1, -1}, 1, 0.1, 8), Catch::Contains("gradient_noise is -1"));
  CHECK_THROWS_WITH(samples_to_gap(a, not_a_number, 0.1, 8), Catch::Contains("gap is"));
  CHECK_THROWS_WITH(samples_to_gap(a, -1, 0.1, 8), Catch::Contains("gap is -1"));
  CHECK_THROWS_WITH(samples_to_gap(a, 1, 0, 8), Catch::Contains("target is 0"));
  CHECK_THROWS_WITH(samples_to_gap(a, 1, 0.1, 0), Catch::Contains("rollouts_per_step is 0"));
}

TEST_CASE("estimate_domination: exact points, and noise taken out") {
  const quadratic q{{0.5, 2}, {1, 3}};
  std::vector<gap_and_gradient> run;
  quadratic now = q;
  double smallest = infinity, squares = 0, gaps = 0;
  for (int t = 0; t < 20; ++t, now.ascend(0.3)) {
    run.push_back({now.gap(), now.squared_norm()});
    smallest = std::min(smallest, now.squared_norm() / now.gap());
    squares += now.squared_norm();
    gaps += now.gap();
  }
  const domination_estimate exact = estimate_domination(run);
  CHECK(exact.smallest == smallest);
  CHECK(exact.mean == Approx(squares / gaps));
  CHECK(exact.smallest >= 2 * 0.5);  // 2 min(h)
  CHECK(exact.smallest == Approx(1).epsilon(0.01));

  // Noise left in makes c too large; told of it, the estimate is the exact one.
  std::vector<gap_and_gradient> noisy = run, corrected = run;
  for (auto& point : noisy) point.squared_norm += 5;
  for (auto& point : corrected) point.squared_norm += point.noise = 5;
  CHECK(estimate_domination(noisy).mean > exact.mean);
  CHECK(estimate_domination(corrected).mean == Approx(exact.mean));
  // Noise is all there is: not positive, and said so.
  CHECK(estimate_domination(std::vector<gap_and_gradient>{{1, 2, 3}}).mean == -1);
  CHECK(estimate_domination(std::vector<gap_and_gradient>{{1, 2, 3}}).smallest == -1);

  CHECK_THROWS_WITH(estimate_domination({}), Catch::Contains("the run is empty"));
  CHECK_THROWS_WITH(estimate_domination(std::vector<gap_and_gradient>{{1, 1}, {0, 1}}), Catch::Contains("gap 1 is 0"));
  CHECK_THROWS_WITH(estimate_domination(std::vector<gap_and_gradient>{{1, infinity}}),
                    Catch::Contains("squared_norm 0"));
  CHECK_THROWS_WITH(estimate_domination(std::vector<gap_and_gradient>{{1, 1, -1}}), Catch::Contains("noise 0 is -1"));
  CHECK_THROWS_WITH(estimate_domination(std::vector<gap_and_gradient>{{not_a_number, 1}}), Catch::Contains("gap 0"));
}

TEST_CASE("the correction for noise is unbiased on the tabular policy, by enumeration") {
  // g = r(y) grad log pi(y) of one rollout, all three completions enumerated.
  const tabular::policy policy({0.4, -0.2, 0.9}, 3);
  const std::vector<double> p = policy.distribution(0), rewards{1, 0, 0.3},
                            truth = policy.expectation_gradient(rewards);
  double squared = 0;
  for (double x : truth) squared += x * x;
  double second = 0, noise = 0;
  for (std::size_t y = 0; y < 3; ++y)
    for (std::size_t k = 0; k < 3; ++k) {
      const double g = rewards[y] * ((y == k) - p[k]);
      second += p[y] * g * g;
      noise += p[y] * (g - truth[k]) * (g - truth[k]);
    }
  const double gap = 1 - policy.expectation(rewards);
  const domination_estimate e = estimate_domination(std::vector<gap_and_gradient>{{gap, second, noise}});
  CHECK(e.mean == Approx(squared / gap));
  CHECK(estimate_domination(std::vector<gap_and_gradient>{{gap, second}}).mean > 1.5 * squared / gap);
}

TEST_CASE("the bound holds for policy gradient on the tabular policy, with c from the run") {
  // The expected reward of a softmax policy with rewards in [0, 1] is 5/2-smooth (Mei et al. 2020, lemma 2).
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    std::vector<double> logits, rewards{1, 0.5, 0, 0.2};
    for (std::size_t k = 0; k < 4; ++k) logits.push_back(3 * random_key(seed).uniform(k) - 1.5);
    tabular::policy policy(logits, 4);
    const double L = 2.5, step = 0.4;
    std::vector<gap_and_gradient> run;
    const double start = 1 - policy.expectation(rewards), target = 0.05;
    double steps = 0;
    for (double gap = start; gap > target; ++steps) {
      const std::vector<double> g = policy.expectation_gradient(rewards);
      run.push_back({gap, policy.space().dot(g, g)});
      const std::vector<double> theta = policy.parameters();
      policy.assign(theta, step, g);
      gap = 1 - policy.expectation(rewards);
    }
    const domination_estimate c = estimate_domination(run);
    const sample_bound safe = samples_to_gap({c.smallest, L, step}, start, target, 16);
    CHECK(safe.steps >= steps);
    CHECK(safe.rollouts == 16 * safe.steps);
    // The condition is local: c taken where the run is fast promises too much for the whole of it.
    const auto fastest = std::max_element(run.begin(), run.end(), [](const auto& a, const auto& b) {
      return a.squared_norm / a.gap < b.squared_norm / b.gap;
    });
    CHECK(c.smallest < c.mean);
    CHECK(c.mean < fastest->squared_norm / fastest->gap);
  }
}
