/// Gradient norms per prompt, drawing by them without bias, and how they vary over checkpoints.

#include <cmath>
#include <limits>
#include <stdexcept>
#include <vector>

#include <rlvr/backend/tabular/policy.hpp>
#include <rlvr/core/moments.hpp>
#include <rlvr/core/saved_state.hpp>
#include <rlvr/gradient/gradient_variance.hpp>
#include <rlvr/gradient/importance_sampling.hpp>
#include <rlvr/gradient/prompt_norms.hpp>

#include "archetypes.hpp"
#include "catch.hpp"

using namespace rlvr;

namespace {

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();
constexpr double infinity = std::numeric_limits<double>::infinity();

std::vector<double> some_norms() {
  return {3, 0.5, 0, 1, 2.25, 0};
}

/// Calls f(ids) for every way to draw `count` of n ids with replacement.
template <class F>
void for_each_draw(std::size_t n, std::size_t count, const F& f) {
  std::vector<std::size_t> ids(count);
  for (;;) {
    f(ids);
    std::size_t j = 0;
    while (j < count && ++ids[j] == n) ids[j++] = 0;
    if (j == count) return;
  }
}

}  // namespace

TEST_CASE("importance_probabilities: the formula and its ends") {
  const std::vector<double> norms = some_norms();
  for (double tau : {0.0, 0.3, 1.0}) {
    const std::vector<double> p = importance_probabilities(norms, tau);
    double sum = 0;
    for (std::size_t i = 0; i < norms.size(); ++i) {
      CHECK(p[i] == Approx(tau * norms[i] / 6.75 + (1 - tau) / 6).margin(1e-15));
      sum += p[i];
    }
    CHECK(sum == Approx(1).epsilon(1e-14));
  }
  CHECK(importance_probabilities(std::vector<double>(4), 1) == std::vector<double>(4, 0.25));  // all zero: uniform
  // Norms whose sum overflows.
  CHECK(importance_probabilities(std::vector<double>{1e308, 1e308, 1e308, 1e308}, 1)[2] == Approx(0.25));
}

TEST_CASE("importance sampling is unbiased with its weights, and biased without") {
  // Every outcome of two draws, enumerated with its probability.
  const std::vector<double> norms = some_norms(), f{0.3, -1, 2, 5, 0.125, 1};
  const double n = 6;
  double truth = 0;
  for (double x : f) truth += x / n;
  for (double tau : {0.0, 0.5, 0.9}) {
    const std::vector<double> p = importance_probabilities(norms, tau);
    double weighted = 0, plain = 0, mass = 0;
    for_each_draw(6, 2, [&](const std::vector<std::size_t>& ids) {
      const double probability = p[ids[0]] * p[ids[1]];
      mass += probability;
      for (std::size_t id : ids) {
        weighted += probability * f[id] / (n * p[id]) / 2;
        plain += probability * f[id] / 2;
      }
    });
    CHECK(mass == Approx(1));
    CHECK(weighted == Approx(truth).epsilon(1e-13));
    if (tau > 0) CHECK(std::fabs(plain - truth) > 0.1);
  }
}

TEST_CASE("the weights that are handed out are those of the enumeration, and draws follow the probabilities") {
  const std::vector<double> p = importance_probabilities(some_norms(), 1);
  constexpr std::size_t draws = 200000;
  const importance_sample sample = draw_with_replacement(p, draws, random_key(5));
  REQUIRE(sample.ids.size() == draws);
  REQUIRE(sample.weights.size() == draws);
  std::vector<double> seen(p.size());
  bool weights_agree = true;
  for (std::size_t j = 0; j < draws; ++j) {
    seen[sample.ids[j]] += 1;
    weights_agree = weights_agree && sample.weights[j] == 1 / (6 * p[sample.ids[j]]);
  }
  CHECK(weights_agree);
  double chi = 0;
  for (std::size_t i = 0; i < p.size(); ++i) {
    if (p[i] == 0) {
      CHECK(seen[i] == 0);
      continue;
    }
    chi += (seen[i] - draws * p[i]) * (seen[i] - draws * p[i]) / (draws * p[i]);
  }
  CHECK(chi < 49);  // chi-square of 3 degrees: false alarm below 1e-9

  // Draw j does not depend on how many are asked for, and another key gives others.
  const importance_sample few = draw_with_replacement(p, 100, random_key(5));
  CHECK(std::equal(few.ids.begin(), few.ids.end(), sample.ids.begin()));
  CHECK(draw_with_replacement(p, 100, random_key(6)).ids != few.ids);
  CHECK(draw_with_replacement(p, 0, random_key(5)).ids.empty());
  const std::vector<double> last{0, 0, 1, 0};
  for (std::size_t id : draw_with_replacement(last, 50, random_key(1)).ids) CHECK(id == 2);
}

TEST_CASE("norms as probabilities have the least variance") {
  // Of 1/(N p) g over draws from p, for gradients g of one coordinate: sum_i g_i^2 / (N^2 p_i) - mean^2.
  const std::vector<double> g{3, 0.5, 0.1, 1, 2.25, 0.7};
  const auto variance = [&](const std::vector<double>& p) {
    double second = 0, mean = 0;
    for (std::size_t i = 0; i < g.size(); ++i) {
      second += g[i] * g[i] / (36 * p[i]);
      mean += g[i] / 6;
    }
    return second - mean * mean;
  };
  const double best = variance(importance_probabilities(g, 1));
  CHECK(best == Approx(0).margin(1e-14));  // all of one sign: every weighted draw is the mean itself
  double before = variance(importance_probabilities(g, 0));
  for (double tau : {0.25, 0.5, 0.75, 1.0}) {
    const double now = variance(importance_probabilities(g, tau));
    CHECK(now < before);
    before = now;
  }
}

TEST_CASE("importance sampling names what is wrong") {
  CHECK_THROWS_WITH(importance_probabilities({}, 0.5), Catch::Contains("there are no norms"));
  for (double bad : {-1.0, not_a_number, infinity})
    CHECK_THROWS_WITH(importance_probabilities(std::vector<double>{1, bad}, 0.5), Catch::Contains("norm 1 is"));
  for (double bad : {-0.1, 1.1, not_a_number})
    CHECK_THROWS_WITH(importance_probabilities(std::vector<double>{1}, bad), Catch::Contains("tau is"));
  CHECK_THROWS_WITH(draw_with_replacement({}, 1, random_key(0)), Catch::Contains("there are no probabilities"));
  CHECK_THROWS_WITH(draw_with_replacement(std::vector<double>{0.5, 0.4}, 1, random_key(0)),
                    Catch::Contains("sum to 0.9"));
  for (double bad : {-0.5, not_a_number, infinity})
    CHECK_THROWS_WITH(draw_with_replacement(std::vector<double>{1, bad}, 1, random_key(0)),
                      Catch::Contains("probability 1 is"));
}

TEST_CASE("prompt_gradient_norms: closed form on the tabular policy") {
  const std::vector<double> logits{0.2, -1, 0.7, 0, 0, 0, 2, -2, 0.1};
  tabular::policy policy(logits, 3);
  const auto prompts = policy.prompts();
  const std::vector<sample_request> requests{{2, 8, 0}, {0, 4, 0}, {1, 6, 0}};
  for (double temperature : {1.0, 0.7}) {
    const rollouts r = policy.sample(prompts, requests, {temperature, 1}, random_key(3));
    std::vector<double> c;
    for (std::size_t t = 0; t < r.tokens.size(); ++t) c.push_back(2 * random_key(4).uniform(t) - 1);
    for (std::size_t t = 12; t < c.size(); ++t) c[t] = 0;  // prompt 1 has no gradient
    const std::vector<double> norms = prompt_gradient_norms(policy, prompts, r, c, temperature);
    const groups g = groups_of(r.prompts);
    REQUIRE(norms.size() == 3);
    for (std::size_t k = 0; k < g.size(); ++k) {
      std::vector<double> expected(3);
      const std::vector<double> p = policy.distribution(r.prompts[g.begin(k)], temperature);
      for (std::size_t i = g.begin(k); i < g.end(k); ++i)
        for (std::size_t a = 0; a < 3; ++a)
          expected[a] += c[i] * ((r.tokens[i] == static_cast<token>(a) ? 1 : 0) - p[a]) / temperature;
      CHECK(norms[k] == Approx(std::hypot(expected[0], expected[1], expected[2])).margin(1e-14));
    }
    CHECK(norms[2] == 0);
    // Rows of different prompts are orthogonal.
    auto whole = policy.space().zero();
    policy.accumulate_score(prompts, r, c, temperature, whole);
    const double row0 = std::hypot(whole[0], whole[1], whole[2]);
    CHECK(norms[1] == Approx(row0));

    // The same pass gives the gradient of the batch, on top of what was there.
    sum_accumulator sum(policy.space());
    CHECK(prompt_gradient_norms(policy, prompts, r, c, temperature, sum) == norms);
    CHECK(sum.count() == r.size());
    for (std::size_t k = 0; k < whole.size(); ++k) CHECK(sum.sum()[k] == Approx(whole[k]).margin(1e-14));
    rollouts judged = r;
    judged.verdicts.assign(r.size(), verdict{});
    judged.verdicts[3].scored = false;
    prompt_gradient_norms(policy, prompts, judged, c, temperature, sum);
    CHECK(sum.count() == 2 * r.size() - 1);
    for (std::size_t k = 0; k < whole.size(); ++k) CHECK(sum.sum()[k] == Approx(2 * whole[k]).margin(1e-14));
    judged.verdicts.pop_back();
    CHECK_THROWS_WITH(prompt_gradient_norms(policy, prompts, judged, c, temperature, sum),
                      Catch::Contains("17 verdicts for 18 rollouts"));
  }
  const rollouts apart = policy.sample(prompts, std::vector<sample_request>{{2, 5, 0}, {0, 4, 0}, {2, 3, 5}}, {},
                                       random_key(3));
  CHECK_THROWS_WITH(prompt_gradient_norms(policy, prompts, apart, std::vector<double>(12, 1.0), 1.0),
                    Catch::Contains("prompt 2 of rollout 9 comes back after another"));
}

TEST_CASE("prompt_gradient_norms estimate what enumeration says") {
  // Over all pairs of completions of one prompt: E |g|^2 = |E g|^2 + variance, for g = 1/2 sum_i A(y_i) grad log pi.
  tabular::policy policy({0.5, -0.3, 0.1}, 3);
  const auto prompts = policy.prompts();
  const std::vector<double> p = policy.distribution(0), advantages{1, -0.5, 0.25};
  double second = 0;
  rollouts r;
  r.offsets = {0, 1, 2};
  r.prompts = {0, 0};
  for (token a = 0; a < 3; ++a)
    for (token b = 0; b < 3; ++b) {
      r.tokens = {a, b};
      const std::vector<double> c{advantages[static_cast<std::size_t>(a)] / 2,
                                  advantages[static_cast<std::size_t>(b)] / 2};
      const double norm = prompt_gradient_norms(policy, prompts, r, c, 1).at(0);
      second += p[static_cast<std::size_t>(a)] * p[static_cast<std::size_t>(b)] * norm * norm;
    }
  const std::vector<double> mean = policy.expectation_gradient(advantages);
  double squared = 0, single = 0;
  for (double x : mean) squared += x * x;
  for (std::size_t a = 0; a < 3; ++a)
    for (std::size_t k = 0; k < 3; ++k) {
      const double score = (a == k) - p[k];
      single += p[a] * advantages[a] * advantages[a] * score * score;
    }
  CHECK(second == Approx(squared + (single - squared) / 2));
}

TEST_CASE("prompt_gradient_norms: weakest policy, one vector, bad input") {
  archetype::policy weakest({0, 1, 2, 3}, 2);
  tabular::policy policy({0, 1, 2, 3}, 2);
  const auto prompts = policy.prompts();
  const rollouts r = policy.sample(prompts, std::vector<sample_request>{{0, 3, 0}, {1, 3, 0}}, {}, random_key(1));
  std::vector<double> c{1, -1, 0.5, 2, 0.25, 1};
  CHECK(prompt_gradient_norms(weakest, prompts, r, c, 1) == prompt_gradient_norms(policy, prompts, r, c, 1));
  CHECK(prompt_gradient_norms(policy, prompts, rollouts{}, {}, 1).empty());
  // One infinite gradient does not spoil the next.
  auto broken = policy.parameters();
  const std::vector<double> before = prompt_gradient_norms(policy, prompts, r, c, 1);
  broken[0] = not_a_number;
  tabular::policy half(broken, 2);
  const std::vector<double> after = prompt_gradient_norms(half, prompts, r, c, 1);
  CHECK(std::isnan(after[0]));
  CHECK(after[1] == before[1]);

  c.pop_back();
  CHECK_THROWS_WITH(prompt_gradient_norms(policy, prompts, r, c, 1), Catch::Contains("5 coefficients for 6 tokens"));
  c.push_back(not_a_number);
  CHECK_THROWS_AS(prompt_gradient_norms(policy, prompts, r, c, 1), std::invalid_argument);
  rollouts damaged = r;
  damaged.prompts.pop_back();
  CHECK_THROWS_WITH(prompt_gradient_norms(policy, prompts, damaged, c, 1), Catch::Contains("5 prompts for 6 rollouts"));
}

TEST_CASE("gradient_variance is the mean deviation of the coordinates") {
  gradient_variance vog(3, 4);
  std::vector<std::vector<std::vector<double>>> seen(3);
  for (std::uint64_t k = 0; k < 7; ++k)
    for (std::size_t id = 0; id < 2; ++id) {
      if (id == 1 && k >= 1) continue;  // one observation
      std::vector<double> g;
      for (std::uint32_t d = 0; d < 4; ++d)
        g.push_back(1e6 * static_cast<double>(id) + d * random_key(k).uniform(id, d));
      vog.observe(id, g);
      seen[id].push_back(g);
    }
  double expected = 0;
  for (std::size_t d = 0; d < 4; ++d) {
    std::vector<double> column;
    for (const auto& g : seen[0]) column.push_back(g[d]);
    expected += moments_of(column).deviation(0) / 4;
  }
  CHECK(vog.score(0) == Approx(expected).epsilon(1e-12));
  CHECK(vog.count(0) == 7);
  CHECK(vog.score(1) == 0);  // once
  CHECK(vog.score(2) == 0);  // never
  CHECK(vog.count(2) == 0);

  gradient_variance other(3, 4), smaller(2, 4), thinner(3, 2);
  restore_state(other, save_state(vog));
  CHECK(other.score(0) == vog.score(0));
  for (auto* v : {&vog, &other}) v->observe(0, std::vector<double>{1, 2, 3, 4});
  CHECK(other.score(0) == vog.score(0));
  CHECK_THROWS_AS(restore_state(smaller, save_state(vog)), state_error);
  CHECK_THROWS_AS(restore_state(thinner, save_state(vog)), state_error);

  const double before = vog.score(0);
  CHECK_THROWS_WITH(vog.observe(3, std::vector<double>(4)), Catch::Contains("prompt 3 of a pool of 3"));
  CHECK_THROWS_WITH(vog.score(3), Catch::Contains("prompt 3 of a pool of 3"));
  CHECK_THROWS_WITH(vog.count(3), Catch::Contains("prompt 3 of a pool of 3"));
  CHECK_THROWS_WITH(vog.observe(0, 1.0), Catch::Contains("1 numbers, expected 4"));
  CHECK_THROWS_WITH(vog.observe(0, std::vector<double>{0, 0, 0, infinity}), Catch::Contains("number 3 of prompt 0"));
  CHECK_THROWS_WITH(gradient_variance(3, 0), Catch::Contains("dimension is 0"));
  CHECK(vog.score(0) == before);
  CHECK(vog.count(0) == 8);
  vog.reset();
  CHECK(vog.score(0) == 0);
  CHECK(vog.count(0) == 0);
}

TEST_CASE("gradient_variance of norms: equal norms have no variance, far from zero either") {
  gradient_variance vog(2);
  for (int k = 0; k < 100; ++k) {
    vog.observe(0, 0.1 + 1e9);
    vog.observe(1, 1e9 + (k % 2));
  }
  CHECK(vog.score(0) == 0);
  CHECK(vog.score(1) == Approx(0.5).epsilon(1e-6));
}
