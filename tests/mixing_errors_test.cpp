/// Errors of two estimators from their subset gradients: exact expectations, and the weight that they lead to.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include <rlvr/backend/tabular/policy.hpp>
#include <rlvr/backend/tabular/space.hpp>
#include <rlvr/core/norm.hpp>
#include <rlvr/core/random.hpp>
#include <rlvr/gradient/mixing_errors.hpp>
#include <rlvr/gradient/subset_gradients.hpp>

#include "archetypes.hpp"
#include "catch.hpp"

using namespace rlvr;

namespace {

using vec = std::vector<double>;

double dot(const vec& x, const vec& y) {
  double sum = 0;
  for (std::size_t i = 0; i < x.size(); ++i) sum += x[i] * y[i];
  return sum;
}

/// One unit says one of three things, equally likely: a pair of vectors, the second related to the first.
struct unit_world {
  vec x[3], y[3];

  explicit unit_world(std::uint64_t seed) {
    const auto draw = [&](std::uint64_t k, std::uint32_t i) { return 4 * random_key(seed).uniform(k, i) - 2; };
    for (std::uint64_t k = 0; k < 3; ++k) {
      x[k] = {draw(k, 0), 2 * draw(k, 1), 0.5};
      y[k] = {0.7 * x[k][0] + 0.3 + draw(k, 2), 0.2 * x[k][1] - 0.5, draw(k, 3)};
    }
  }
  static vec mean(const vec (&z)[3]) {
    vec out(3);
    for (const vec& v : z)
      for (std::size_t i = 0; i < 3; ++i) out[i] += v[i] / 3;
    return out;
  }
  /// tr Cov of one unit's a and b.
  static double covariance(const vec (&a)[3], const vec (&b)[3]) {
    double sum = 0;
    for (std::size_t k = 0; k < 3; ++k) sum += dot(a[k], b[k]) / 3;
    return sum - dot(mean(a), mean(b));
  }
};

/// Gram matrix of the subset sums when unit u, of the subset that `counts` puts it in, says `said[u]`.
vec gram_of(const unit_world& w, const std::vector<std::size_t>& counts, const std::vector<std::size_t>& said) {
  const std::size_t M = counts.size();
  std::vector<vec> sums(2 * M, vec(3));
  std::size_t u = 0;
  for (std::size_t m = 0; m < M; ++m)
    for (std::size_t n = 0; n < counts[m]; ++n, ++u)
      for (std::size_t i = 0; i < 3; ++i) {
        sums[m][i] += w.x[said[u]][i];
        sums[M + m][i] += w.y[said[u]][i];
      }
  vec gram;
  for (const vec& a : sums)
    for (const vec& b : sums) gram.push_back(dot(a, b));
  return gram;
}

}  // namespace

TEST_CASE("estimator_errors_of is unbiased, by enumeration", "[gradient]") {
  for (std::uint64_t seed = 0; seed < 10; ++seed) {
    const unit_world w(seed);
    // Even and uneven subsets, and one without units.
    for (const std::vector<std::size_t>& counts :
         {std::vector<std::size_t>{1, 1}, {2, 2}, {1, 3}, {3, 0, 1, 2}, {1, 1, 1, 1, 1}}) {
      std::size_t N = 0;
      for (const std::size_t n : counts) N += n;
      std::size_t outcomes = 1;
      for (std::size_t u = 0; u < N; ++u) outcomes *= 3;
      double first = 0, second = 0, cross = 0;
      for (std::size_t o = 0; o < outcomes; ++o) {
        std::vector<std::size_t> said;
        for (std::size_t u = 0, rest = o; u < N; ++u, rest /= 3) said.push_back(rest % 3);
        const estimator_errors e = estimator_errors_of(gram_of(w, counts, said), counts, unbiased_estimator::both);
        CHECK(e.first >= 0);
        CHECK(e.second >= 0);
        CHECK(e.cross * e.cross <= e.first * e.second * (1 + 1e-12));
        first += e.first / static_cast<double>(outcomes);
        second += e.second / static_cast<double>(outcomes);
        cross += e.cross / static_cast<double>(outcomes);
      }
      const auto n = static_cast<double>(N);
      CHECK(first == Approx(n * unit_world::covariance(w.x, w.x)));
      CHECK(second == Approx(n * unit_world::covariance(w.y, w.y)));
      CHECK(cross == Approx(n * unit_world::covariance(w.x, w.y)));
    }
  }
}

TEST_CASE("The bias is what the full gradients are apart beyond their noise", "[gradient]") {
  const std::vector<std::size_t> counts{2, 1, 2};
  const std::size_t outcomes = 243;
  std::size_t clipped = 0;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    const unit_world w(seed);
    double apart = 0;
    for (std::size_t o = 0; o < outcomes; ++o) {
      std::vector<std::size_t> said;
      for (std::size_t u = 0, rest = o; u < 5; ++u, rest /= 3) said.push_back(rest % 3);
      const vec gram = gram_of(w, counts, said);
      const estimator_errors noise = estimator_errors_of(gram, counts, unbiased_estimator::both);
      const estimator_errors of_second = estimator_errors_of(gram, counts, unbiased_estimator::first);
      const estimator_errors of_first = estimator_errors_of(gram, counts, unbiased_estimator::second);
      CHECK(of_second.first == noise.first);
      CHECK(of_second.cross == noise.cross);
      CHECK(of_first.second == noise.second);
      double full = 0;  // |X - Y|^2
      for (std::size_t i = 0; i < 6; ++i)
        for (std::size_t j = 0; j < 6; ++j) full += (i < 3 ? 1 : -1) * (j < 3 ? 1 : -1) * gram[6 * i + j];
      const double estimate = full - (noise.first + noise.second - 2 * noise.cross);
      CHECK(of_second.second - noise.second == Approx(std::fmax(estimate, 0)).margin(1e-9));
      CHECK(of_first.first - noise.first == Approx(std::fmax(estimate, 0)).margin(1e-9));
      apart += estimate / outcomes;
      clipped += estimate < 0;
    }
    const vec x = unit_world::mean(w.x), y = unit_world::mean(w.y);
    CHECK(apart == Approx(25 * (dot(x, x) + dot(y, y) - 2 * dot(x, y))));
  }
  CHECK(clipped > 100);  // both sides of the branch
  CHECK(clipped < 20 * outcomes - 100);
}

TEST_CASE("With many subsets the weight comes to that of the truth", "[gradient]") {
  // 4,000 units, one a subset: the relative error of a variance is about 2%, and the weight's bounds here are wide.
  const unit_world w(5);
  const std::size_t M = 400, per = 10;
  const std::vector<std::size_t> counts(M, per);
  std::vector<std::size_t> said;
  for (std::uint64_t u = 0; u < M * per; ++u) said.push_back(random_key(9).below(3, u));
  const vec gram = gram_of(w, counts, said);
  const double n = static_cast<double>(M * per);
  const vec x = unit_world::mean(w.x), y = unit_world::mean(w.y);
  const double bias = n * n * (dot(x, x) + dot(y, y) - 2 * dot(x, y));
  const double V1 = n * unit_world::covariance(w.x, w.x), V2 = n * unit_world::covariance(w.y, w.y),
               C = n * unit_world::covariance(w.x, w.y);
  for (const unbiased_estimator truth :
       {unbiased_estimator::both, unbiased_estimator::first, unbiased_estimator::second}) {
    const estimator_errors exact{.first = V1 + (truth == unbiased_estimator::second ? bias : 0),
                                 .second = V2 + (truth == unbiased_estimator::first ? bias : 0),
                                 .cross = C};
    CHECK(mixing_weight(estimator_errors_of(gram, counts, truth)) == Approx(mixing_weight(exact)).margin(0.1));
  }
  CHECK(mixing_weight(estimator_errors_of(gram, counts, unbiased_estimator::first)) > 0.9);
  CHECK(mixing_weight(estimator_errors_of(gram, counts, unbiased_estimator::second)) < 0.1);
}

TEST_CASE("estimator_errors_of: degenerate subsets", "[gradient]") {
  const std::vector<std::size_t> counts{1, 1, 1};
  SECTION("the same estimator twice: any weight") {
    vec gram;
    const vec s[3] = {{0.1, 0.7}, {-0.3, 0.2}, {0.9, -0.4}};
    for (std::size_t i = 0; i < 6; ++i)
      for (std::size_t j = 0; j < 6; ++j) gram.push_back(dot(s[i % 3], s[j % 3]));
    for (const unbiased_estimator truth : {unbiased_estimator::both, unbiased_estimator::first}) {
      const estimator_errors e = estimator_errors_of(gram, counts, truth);
      CHECK(e.first == Approx(e.second));
      CHECK(e.cross == Approx(e.first));
      const double a = mixing_weight(e);
      CHECK((a >= 0 && a <= 1));
    }
  }
  SECTION("no noise: the unbiased one alone, and half of each where both are") {
    vec gram;
    const vec s[2] = {{0.1, 0.7}, {-0.3, 0.2}};
    for (std::size_t i = 0; i < 6; ++i)
      for (std::size_t j = 0; j < 6; ++j) gram.push_back(dot(s[i / 3], s[j / 3]));
    CHECK(mixing_weight(estimator_errors_of(gram, counts, unbiased_estimator::first)) == Approx(1));
    CHECK(mixing_weight(estimator_errors_of(gram, counts, unbiased_estimator::second)) == Approx(0).margin(1e-12));
  }
  SECTION("no noise but rounding: still moments of two estimators") {
    for (std::uint64_t seed = 0; seed < 200; ++seed) {
      const random_key key(seed);
      const vec s[2] = {{key.uniform(0), key.uniform(1)}, {key.uniform(2), 1e3 * key.uniform(3)}};
      vec gram;
      for (std::size_t i = 0; i < 6; ++i)
        for (std::size_t j = 0; j < 6; ++j) gram.push_back(dot(s[i / 3], s[j / 3]));
      const double a = mixing_weight(estimator_errors_of(gram, counts, unbiased_estimator::both));
      CHECK((a >= 0 && a <= 1));
    }
  }
  SECTION("all zero") {
    const vec gram(36);
    CHECK(mixing_weight(estimator_errors_of(gram, counts, unbiased_estimator::first)) == 0.5);
  }
  SECTION("bad input") {
    using Catch::Contains;
    constexpr unbiased_estimator both = unbiased_estimator::both;
    CHECK_THROWS_WITH(estimator_errors_of(vec(35), counts, both), Contains("35 entries for 3 counts, expected 36"));
    const std::vector<std::size_t> lone{0, 5, 0};
    CHECK_THROWS_WITH(estimator_errors_of(vec(36), lone, both), Contains("1 subsets with units, expected two or more"));
    CHECK_THROWS_WITH(estimator_errors_of(vec{}, std::vector<std::size_t>{}, both), Contains("0 subsets"));
    vec gram(36);
    gram[7] = std::numeric_limits<double>::infinity();
    CHECK_THROWS_WITH(estimator_errors_of(gram, counts, both), Contains("entry 7 of the Gram matrix is inf"));
  }
}

TEST_CASE("Two estimators on a policy, mixed by what their subsets say", "[gradient]") {
  // The first gradient has a good baseline and the second none: the second's noise gets little weight.
  tabular::policy policy(vec(60 * 4), 4);
  const ragged<token> prompts = policy.prompts();
  std::vector<sample_request> requests;
  for (std::uint32_t i = 0; i < 60; ++i) requests.push_back({.prompt = i, .count = 4});
  const rollouts r = policy.sample(prompts, requests, {}, random_key(1));
  vec centred(r.size()), raw(r.size());
  for (std::size_t i = 0; i < r.size(); ++i) {
    raw[i] = 10 + (r.tokens[i] == 0);
    centred[i] = raw[i] - 10.25;
  }
  const auto& space = policy.space();
  const subset_options options{.subsets = 6, .parts = gradient_parts::none};
  subset_gradients<tabular::space> quiet(space, options), noisy(space, options);
  quiet.add(policy, prompts, r, centred, 1.0);
  noisy.add(policy, prompts, r, raw, 1.0);
  const auto first = [&](std::size_t m) -> const vec& { return quiet.subset(m); };
  const auto second = [&](std::size_t m) -> const vec& { return noisy.subset(m); };
  const std::vector<std::size_t> counts(6, 10);
  const estimator_errors e = estimator_errors_of(space, first, second, counts, unbiased_estimator::both);
  CHECK(e.second > 100 * e.first);
  CHECK(mixing_weight(e) > 0.95);

  vec mixed = noisy.total(space);
  mix(space, mixing_weight(e), quiet.total(space), mixed);
  vec error = mixed;
  space.axpy(-1.0, quiet.total(space), error);
  CHECK(norm(space, error) < 0.1 * norm(space, noisy.total(space)));
}

TEST_CASE("estimator_errors_of asks a space for dots only", "[gradient]") {
  const archetype::space space(2);
  std::vector<archetype::vector> x, y;
  for (double v : {1.0, 2.0, 4.0}) {
    x.push_back(space.from_host({v, -v}));
    y.push_back(space.from_host({2 * v, 1.0}));
  }
  const auto first = [&](std::size_t m) -> const archetype::vector& { return x[m]; };
  const auto second = [&](std::size_t m) -> const archetype::vector& { return y[m]; };
  const std::vector<std::size_t> counts{1, 1, 1};
  const estimator_errors e = estimator_errors_of(space, first, second, counts, unbiased_estimator::both);
  CHECK(e.first == Approx(3 * 2 * 7.0 / 3));  // three times the sample variance of 1, 2, 4, in two coordinates
  CHECK(e.second == Approx(3 * 4 * 7.0 / 3));
  CHECK(e.cross == Approx(3 * 2 * 7.0 / 3));
}
