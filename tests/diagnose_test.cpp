/// Diagnostics: intervals, cosines, entropy, pass@k.

#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <rlvr/backend/tabular/policy.hpp>
#include <rlvr/diagnose/average.hpp>
#include <rlvr/diagnose/displacement_cosine.hpp>
#include <rlvr/diagnose/entropy.hpp>
#include <rlvr/diagnose/informative.hpp>
#include <rlvr/diagnose/interval.hpp>
#include <rlvr/diagnose/majority.hpp>
#include <rlvr/diagnose/part_cosine.hpp>
#include <rlvr/diagnose/pass_at_k.hpp>
#include <rlvr/diagnose/student_t.hpp>
#include <rlvr/diagnose/subset_cosine.hpp>
#include <rlvr/gradient/subset_gradients.hpp>

#include "archetypes.hpp"
#include "catch.hpp"

using namespace rlvr;

namespace {

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();
constexpr double infinity = std::numeric_limits<double>::infinity();

/// Standard normal number `index` of a key (Box-Muller).
double normal(random_key key, std::uint64_t index) {
  constexpr double two_pi = 6.283185307179586;
  return std::sqrt(-2 * std::log(key.uniform(index, 0))) * std::cos(two_pi * key.uniform(index, 1));
}

}  // namespace

TEST_CASE("student_t_quantile equals the tables", "[diagnose]") {
  // Printed tables, three decimals (central 95% and 99%).
  struct row {
    std::size_t degrees;
    double t95, t99;
  };
  for (const row& r : {row{1, 12.706, 63.657},
                       {2, 4.303, 9.925},
                       {3, 3.182, 5.841},
                       {4, 2.776, 4.604},
                       {5, 2.571, 4.032},
                       {6, 2.447, 3.707},
                       {7, 2.365, 3.499},
                       {8, 2.306, 3.355},
                       {9, 2.262, 3.250},
                       {10, 2.228, 3.169},
                       {15, 2.131, 2.947},
                       {20, 2.086, 2.845},
                       {30, 2.042, 2.750},
                       {40, 2.021, 2.704},
                       {60, 2.000, 2.660},
                       {120, 1.980, 2.617},
                       {10000000, 1.960, 2.576}}) {
    INFO(r.degrees);
    CHECK(student_t_quantile(r.degrees) == Approx(r.t95).margin(5.1e-4));
    CHECK(student_t_quantile(r.degrees, 0.99) == Approx(r.t99).margin(5.1e-4));
  }
  // Closed forms for 1, 2 and 4 degrees of freedom.
  for (double c : {0.01, 0.5, 0.9, 0.95, 0.999, 0.9999}) {
    CHECK(student_t_quantile(1, c) == Approx(std::tan(std::numbers::pi / 2 * c)).epsilon(1e-10));
    CHECK(student_t_quantile(2, c) == Approx(c * std::sqrt(2 / (1 - c * c))).epsilon(1e-10));
    const double a = std::sqrt(1 - c * c);  // sqrt(4 p (1 - p)) with p = (1 + c) / 2
    CHECK(student_t_quantile(4, c) ==
          Approx(2 * std::sqrt(std::cos(std::acos(a) / 3) / a - 1)).epsilon(1e-10));
  }
  for (std::size_t n : {1u, 2u, 3u, 17u, 256u, 1023u})
    for (double c : {0.01, 0.5, 0.95, 0.9999})
      CHECK(student_t_central(n, student_t_quantile(n, c)) == Approx(c).epsilon(1e-12));
  CHECK(student_t_central(3, 0) == 0);
  CHECK(student_t_central(3, infinity) == Approx(1));
  CHECK_THROWS_AS(student_t_quantile(0), std::invalid_argument);
  CHECK_THROWS_AS(student_t_quantile(3, 1.0), std::invalid_argument);
  CHECK_THROWS_AS(student_t_quantile(3, 0.0), std::invalid_argument);
  CHECK_THROWS_AS(student_t_quantile(3, not_a_number), std::invalid_argument);
  CHECK_THROWS_AS(student_t_central(0, 1), std::invalid_argument);
  CHECK_THROWS_AS(student_t_central(3, -1), std::invalid_argument);
}

TEST_CASE("prompt_means average each prompt's scored rollouts", "[diagnose]") {
  const std::vector<verdict> v{{1, true}, {0, true}, {not_a_number, false}, {0.25, true}, {5, false}};
  const groups g{{0, 3, 4, 5}};
  const std::vector<double> means = prompt_means(v, g);
  REQUIRE(means.size() == 3);
  CHECK(means[0] == 0.5);
  CHECK(means[1] == 0.25);
  CHECK(std::isnan(means[2]));
  CHECK_THROWS_AS(prompt_means(v, groups{{0, 3}}), std::invalid_argument);
  CHECK_THROWS_WITH(prompt_means(std::vector<verdict>{{not_a_number, true}}, groups{{0, 1}}),
                    "prompt_means: reward 0 is nan");
}

TEST_CASE("mean_interval: a known example, and its degenerate cases", "[diagnose]") {
  // 1, 2, 3, 4: mean 2.5, s^2 = 5/3, t(3) = 3.182446.
  const interval i = mean_interval(std::vector<double>{1, 2, 3, 4});
  CHECK(i.mean == 2.5);
  CHECK(i.high - i.mean == Approx(3.182446 * std::sqrt(5.0 / 12)).epsilon(1e-6));
  CHECK(i.mean - i.low == Approx(i.high - i.mean));
  CHECK(mean_interval(std::vector<double>{1, not_a_number, 2, 3, not_a_number, 4}) == i);

  const interval none = mean_interval(std::vector<double>{not_a_number});
  CHECK((std::isnan(none.mean) && std::isnan(none.low) && std::isnan(none.high)));
  CHECK(std::isnan(mean_interval({}).mean));
  CHECK(mean_interval(std::vector<double>{0.5}) == interval{0.5, -infinity, infinity});
  CHECK(mean_interval(std::vector<double>(9, 0.1)) == interval{0.1, 0.1, 0.1});
  CHECK_THROWS_AS(mean_interval(std::vector<double>{1, infinity}), std::invalid_argument);
  CHECK_THROWS_AS(mean_interval(std::vector<double>{1, 2}, 1.5), std::invalid_argument);
}

TEST_CASE("mean_interval covers as often as it says", "[diagnose]") {
  // 20,000 samples of 5 normal numbers: 95% cover, standard error .00154; 6.5 of them is a false alarm below
  // 1e-10.
  const random_key key(41);
  std::size_t covered = 0;
  for (std::uint64_t s = 0; s < 20000; ++s) {
    std::vector<double> x(5);
    for (std::size_t i = 0; i < 5; ++i) x[i] = 3 + normal(key, 5 * s + i);
    const interval c = mean_interval(x);
    covered += c.low <= 3 && 3 <= c.high;
  }
  CHECK(static_cast<double>(covered) / 20000 == Approx(0.95).margin(6.5 * 0.00154));
}

TEST_CASE("accuracy_interval: Wilson's equation with the clustered standard error", "[diagnose]") {
  // mean 0.1875, s^2 = 0.171875 / 3, t(3) = 3.182446; both ends solve (p - mean)^2 = t^2 p (1 - p) / n_eff.
  const std::vector<double> values{0, 0.5, not_a_number, 0, 0.25};
  const interval i = accuracy_interval(values);
  CHECK(i.mean == 0.1875);
  const double effective = 0.1875 * 0.8125 * 4 / (0.171875 / 3);
  for (double p : {i.low, i.high})
    CHECK((p - i.mean) * (p - i.mean) == Approx(3.182446 * 3.182446 * p * (1 - p) / effective).epsilon(1e-5));
  CHECK((0 < i.low && i.low < i.mean && i.mean < i.high && i.high < 1));
  CHECK(mean_interval(values).low < 0);

  // The same of wrong answers, mirrored.
  const interval wrong = accuracy_interval(std::vector<double>{1, 0.5, 1, 0.75});
  CHECK(wrong.low == Approx(1 - i.high));
  CHECK(wrong.high == Approx(1 - i.low));

  // Where the mean is far from 0 and 1 and the prompts are many, it is mean_interval's.
  std::vector<double> many(1000);
  for (std::size_t k = 0; k < many.size(); ++k) many[k] = static_cast<double>(k % 5) / 4;
  const interval wilson = accuracy_interval(many), normal = mean_interval(many);
  CHECK(wilson.low == Approx(normal.low).epsilon(1e-3));
  CHECK(wilson.high == Approx(normal.high).epsilon(1e-3));
  CHECK(accuracy_interval(many, 0.5).high < wilson.high);
}

TEST_CASE("accuracy_interval: equal values count as one rollout each", "[diagnose]") {
  const double t = student_t_quantile(8);
  const interval never = accuracy_interval(std::vector<double>(9, 0.0)),
                 always = accuracy_interval(std::vector<double>(9, 1.0));
  CHECK((never.mean == 0 && never.low == 0));
  CHECK(never.high == Approx(t * t / (9 + t * t)));
  CHECK((always.mean == 1 && always.high == 1));
  CHECK(always.low == Approx(1 - never.high));
  const interval half = accuracy_interval(std::vector<double>(9, 0.5));
  CHECK(half.high - 0.5 == Approx(t / 2 / std::sqrt(9 + t * t)));
  CHECK(0.5 - half.low == Approx(half.high - 0.5));

  CHECK(accuracy_interval(std::vector<double>{0.25}) == interval{0.25, 0, 1});
  const interval none = accuracy_interval(std::vector<double>{not_a_number});
  CHECK((std::isnan(none.mean) && std::isnan(none.low) && std::isnan(none.high)));
  CHECK(std::isnan(accuracy_interval({}).low));
  CHECK_THROWS_WITH(accuracy_interval(std::vector<double>{0.5, 1.25}), "accuracy_interval: value 1 is 1.25");
  CHECK_THROWS_WITH(accuracy_interval(std::vector<double>{-0.5}), "accuracy_interval: value 0 is -0.5");
  CHECK_THROWS_WITH(accuracy_interval(std::vector<double>{1, 0}, 1), "accuracy_interval: confidence is 1");
  CHECK(are_accuracies(std::vector<double>{0, not_a_number, 1}));
  CHECK(!are_accuracies(std::vector<double>{0, 1.001}));
  CHECK(!are_accuracies(std::vector<double>{-infinity}));
}

TEST_CASE("accuracy_interval covers near 0, where mean_interval does not", "[diagnose]") {
  // Ten prompts with two rollouts each, enumerated: independent rollouts, and those that are always alike.
  constexpr int n = 10;
  for (double p : {0.002, 0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5})
    for (const bool alike : {false, true}) {
      const double both = alike ? p : p * p, one = alike ? 0 : 2 * p * (1 - p), neither = 1 - both - one;
      double covered = 0, by_mean = 0, total = 0;
      for (int twos = 0; twos <= n; ++twos)
        for (int ones = 0; ones + twos <= n; ++ones) {
          const double chance = std::tgamma(n + 1) / std::tgamma(twos + 1) / std::tgamma(ones + 1) /
                                std::tgamma(n - ones - twos + 1) * std::pow(both, twos) * std::pow(one, ones) *
                                std::pow(neither, n - ones - twos);
          std::vector<double> values(n);
          for (int k = 0; k < twos + ones; ++k) values[static_cast<std::size_t>(k)] = k < twos ? 1 : 0.5;
          const interval wilson = accuracy_interval(values), normal = mean_interval(values);
          covered += wilson.low <= p && p <= wilson.high ? chance : 0;
          by_mean += normal.low <= p && p <= normal.high ? chance : 0;
          total += chance;
        }
      INFO(p << (alike ? " alike: " : " independent: ") << covered << " against " << by_mean);
      CHECK(total == Approx(1));
      CHECK(covered > 0.9);
      if (p < 0.05) CHECK(by_mean < 0.4);
    }
}

TEST_CASE("informative_share: groups whose scored rewards differ", "[diagnose]") {
  const verdict wrong{0, true}, right{1, true}, unscored{7, false}, unknown{not_a_number, false};
  const auto share = [](const std::vector<verdict>& v, std::vector<std::size_t> offsets) {
    return informative_share(v, groups{std::move(offsets)});
  };
  CHECK(share({}, {0}) == 0);
  CHECK(share({wrong, right}, {0, 2}) == 1);
  CHECK(share({right, wrong}, {0, 2}) == 1);
  CHECK(share({right, right}, {0, 2}) == 0);
  CHECK(share({right}, {0, 1}) == 0);
  CHECK(share({wrong, wrong, wrong, right}, {0, 4}) == 1);
  CHECK(share({wrong, right, wrong, wrong}, {0, 4}) == 1);
  CHECK(share({{0.25, true}, {std::nextafter(0.25, 1), true}}, {0, 2}) == 1);
  // What was not scored is not compared, whatever its reward, and does not hide what stands before it.
  CHECK(share({right, unscored}, {0, 2}) == 0);
  CHECK(share({unscored, unknown}, {0, 2}) == 0);
  CHECK(share({unknown, right, unknown, right}, {0, 4}) == 0);
  CHECK(share({right, unscored, wrong}, {0, 3}) == 1);
  // Groups are not compared with each other; those of one rollout count as groups.
  CHECK(share({wrong, wrong, right, right}, {0, 2, 4}) == 0);
  CHECK(share({wrong, right, right, right, wrong}, {0, 2, 4, 5}) == 1.0 / 3);
  CHECK(share({wrong, right, right, wrong, unscored, right, wrong, right}, {0, 2, 4, 6, 8}) == 0.75);
  CHECK_THROWS_WITH(share({wrong, right}, {0, 1}), "informative_share: groups of 1 rollouts for 2 verdicts");
  CHECK_THROWS_AS(share({wrong}, {0, 2}), std::invalid_argument);
  CHECK_THROWS_WITH(share({wrong, right, {not_a_number, true}}, {0, 1, 3}), "informative_share: reward 2 is nan");
  CHECK_THROWS_WITH(share({{-infinity, true}}, {0, 1}), "informative_share: reward 0 is -inf");
}

TEST_CASE("difference_interval pairs prompts", "[diagnose]") {
  const std::vector<double> before{0.1, 0.9, 0.4, not_a_number, 0.3}, after{0.2, 1.0, 0.5, 0.7, not_a_number};
  const interval i = difference_interval(before, after);
  CHECK(i.mean == Approx(0.1));
  CHECK(i.high - i.low == Approx(0).margin(1e-12));
  CHECK_THROWS_AS(difference_interval(before, std::vector<double>{1}), std::invalid_argument);
  CHECK_THROWS_AS(difference_interval(std::vector<double>{infinity}, std::vector<double>{infinity}),
                  std::invalid_argument);
}

TEST_CASE("gram_matrix: a space's own gram is used", "[diagnose]") {
  struct counting : tabular::space {
    using tabular::space::space;
    std::size_t* calls = nullptr;
    std::vector<double> gram(std::span<const std::vector<double>* const> x) const {
      ++*calls;
      std::vector<double> out;
      for (const auto* a : x)
        for (const auto* b : x) out.push_back(dot(*a, *b));
      return out;
    }
  };
  std::size_t calls = 0;
  counting space(2);
  space.calls = &calls;
  const std::vector<std::vector<double>> x{{1, 2}, {3, 5}};
  CHECK(gram_matrix(space, 2, [&](std::size_t m) -> const std::vector<double>& { return x[m]; }) ==
        std::vector<double>{5, 13, 13, 34});
  CHECK(calls == 1);
}

TEST_CASE("agreement_of: exact cases", "[diagnose]") {
  const tabular::space space(3);
  const std::vector<std::vector<double>> sums{{2, 0, 0}, {0, 6, 0}, {4, 0, 0}};
  const std::vector<std::size_t> counts{2, 3, 4};
  const auto at = [&](std::size_t m) -> const std::vector<double>& { return sums[m]; };
  const std::vector<double> gram = gram_matrix(space, 3, at);
  CHECK(gram == std::vector<double>{4, 0, 8, 0, 36, 0, 8, 0, 16});
  const subset_agreement a = agreement_of(gram, counts);
  CHECK(a.subsets == 3);
  CHECK(a.rollouts == 9);
  CHECK(a.cosines == std::vector<double>{1, 0, 1, 0, 1, 0, 1, 0, 1});
  CHECK(a.mean_cosine == Approx(1.0 / 3));
  // |G|^2 = 2 * 8 / (2 * (6 + 8 + 12)); V = mean of 4/2 - 2G, 36/3 - 3G, 16/4 - 4G.
  const double G = 16.0 / 52, V = (18 - 9 * G) / 3;
  CHECK(a.squared_norm == Approx(G));
  CHECK(a.noise_trace == Approx(V));
  CHECK(a.noise_scale == Approx(V / G));
  CHECK(a.implied_cosine == Approx(1 / std::sqrt(1 + V / G / 9)));

  // Identical mean gradients: no noise.
  const subset_agreement same =
      agreement_of(std::vector<double>{4, 8, 8, 16}, std::vector<std::size_t>{1, 2});
  CHECK(same.mean_cosine == 1);
  CHECK(same.noise_scale == 0);
  CHECK(same.implied_cosine == 1);
  // Opposite gradients: unresolved.
  const subset_agreement opposite =
      agreement_of(std::vector<double>{1, -1, -1, 1}, std::vector<std::size_t>{5, 5});
  CHECK(opposite.mean_cosine == -1);
  CHECK(opposite.squared_norm < 0);
  CHECK(opposite.noise_scale == infinity);
  CHECK(opposite.implied_cosine == 0);
  // All zero, as when every group is constant: unresolved, and no cosine is defined.
  const subset_agreement flat = agreement_of(std::vector<double>(4, 0.0), std::vector<std::size_t>{5, 5});
  CHECK(std::isnan(flat.mean_cosine));
  CHECK(std::isnan(flat.cosines[0]));
  CHECK(flat.noise_scale == infinity);
  // One subset, no subset, an empty one beside another, a gradient that is not finite: nothing can be said.
  for (const auto& [g, n] : {std::pair<std::vector<double>, std::vector<std::size_t>>{{4}, {7}},
                             {{}, {}},
                             {{4, 0, 0, 0}, {7, 0}},
                             {{4, not_a_number, not_a_number, 4}, {7, 7}},
                             {{infinity, 1, 1, 4}, {7, 7}}}) {
    const subset_agreement unknown = agreement_of(g, n);
    CHECK(std::isnan(unknown.noise_scale));
    CHECK(std::isnan(unknown.implied_cosine));
    CHECK(std::isnan(unknown.mean_cosine));
  }
  CHECK_THROWS_AS(agreement_of(std::vector<double>(3), counts), std::invalid_argument);
}

TEST_CASE("agreement_of: estimates are unbiased for uneven subsets", "[diagnose]") {
  // Subset m is the sum of n_m draws of G + noise with |G|^2 = 0.5 and V = 3 (dimension 3, variance 1 each).
  const std::vector<double> G{0.5, -0.5, 0};
  const std::vector<std::size_t> counts{1, 4, 9, 30};
  const random_key key(43);
  const tabular::space space(3);
  moments norms, traces;
  for (std::uint64_t trial = 0; trial < 4000; ++trial) {
    std::vector<std::vector<double>> sums;
    for (std::size_t m = 0; m < counts.size(); ++m) {
      const double n = static_cast<double>(counts[m]);
      std::vector<double> s(3);
      for (std::size_t x = 0; x < 3; ++x)
        s[x] = n * G[x] + std::sqrt(n) * normal(key, 12 * trial + 3 * m + x);
      sums.push_back(s);
    }
    const subset_agreement a = agreement_of(
        gram_matrix(space, 4, [&](std::size_t m) -> const std::vector<double>& { return sums[m]; }), counts);
    norms.add(a.squared_norm);
    traces.add(a.noise_trace);
  }
  // Within 6.5 standard errors of the truth, and the standard errors are small enough to mean something.
  const double se_norm = norms.deviation() / std::sqrt(4000.0),
               se_trace = traces.deviation() / std::sqrt(4000.0);
  CHECK(std::fabs(norms.mean - 0.5) < 6.5 * se_norm);
  CHECK(se_norm < 0.01);
  CHECK(std::fabs(traces.mean - 3) < 6.5 * se_trace);
  CHECK(se_trace < 0.05);
}

TEST_CASE("agreement_of reads subset_gradients, on opaque vectors too", "[diagnose][concepts]") {
  const std::vector<double> logits{0.2, 0.4, -1.0, 0.0, 0.3, 0.9, 1.2, -0.2, 0.1, 0.0, 0.6, 0.8};
  tabular::policy plain(logits, 3);
  archetype::policy opaque(logits, 3);
  const ragged<token> prompts = plain.prompts();
  std::vector<sample_request> requests;
  for (std::uint32_t i = 0; i < 4; ++i) requests.push_back({i, 8, 0});
  rollouts r = plain.sample(prompts, requests, {}, random_key(6));
  std::vector<double> c;
  for (token t : r.tokens) {
    r.verdicts.push_back({t == 0 ? 1.0 : 0.0, true});
    c.push_back(t == 0 ? 0.5 : -0.25);
  }
  subset_gradients<tabular::space> a(plain.space(), {.subsets = 2});
  a.add(plain, prompts, r, c, 1.0);
  subset_gradients<archetype::space> b(opaque.space(), {.subsets = 2});
  b.add(opaque, prompts, r, c, 1.0);
  const subset_agreement left = agreement_of(plain.space(), a), right = agreement_of(opaque.space(), b);
  CHECK(left.cosines == right.cosines);
  CHECK(left.noise_scale == right.noise_scale);
  CHECK(left.rollouts == 32);
  CHECK(left.cosines[1] == Approx(0).margin(1e-15));  // prompts share no parameters here

  const double part = part_cosine(opaque.space(), b.correct(), b.incorrect());
  CHECK(part == part_cosine(plain.space(), a.correct(), a.incorrect()));
  CHECK(std::isnan(part_cosine(plain.space(), a.correct(), plain.space().zero())));

  const archetype::space space = opaque.space();
  const archetype::vector& theta = opaque.parameters();
  CHECK(displacement_cosine(space, theta, {.from = theta, .to = space.zero()}) == Approx(-1));
}

TEST_CASE("part_cosine is about -1 on-policy, and shows a wrong temperature", "[diagnose]") {
  // One prompt of 4 completions, 20,000 rollouts: C + I is of length sqrt(N), C and I of length N.
  tabular::policy policy({0.0, 1.5, -0.5, 0.5}, 4);
  const ragged<token> prompts = policy.prompts();
  const auto cosine_at = [&](double sampled, double differentiated) {
    const sample_request request{0, 20000, 0};
    rollouts r = policy.sample(prompts, {&request, 1}, {.temperature = sampled}, random_key(8));
    for (token t : r.tokens) r.verdicts.push_back({t < 2 ? 1.0 : 0.0, true});
    subset_gradients<tabular::space> parts(policy.space(), {.subsets = 1});
    parts.add(policy, prompts, r, std::vector<double>(r.tokens.size(), 1.0), differentiated);
    return part_cosine(policy.space(), parts.correct(), parts.incorrect());
  };
  CHECK(cosine_at(1.0, 1.0) < -0.995);
  CHECK(cosine_at(0.5, 0.5) < -0.995);
  CHECK(cosine_at(0.5, 1.0) > -0.9);
}

TEST_CASE("displacement_cosine", "[diagnose]") {
  const tabular::space space(2);
  const std::vector<double> from{1e6, 1e6}, to{1e6 + 1, 1e6 + 1};
  CHECK(displacement_cosine(space, {2, 2}, {.from = from, .to = to}) == Approx(1));
  CHECK(displacement_cosine(space, {1, -1}, {.from = from, .to = to}) == Approx(0).margin(1e-15));
  CHECK(displacement_cosine(space, {-1, 0}, {.from = from, .to = to}) == Approx(-std::sqrt(0.5)));
  CHECK(std::isnan(displacement_cosine(space, {1, 0}, {.from = from, .to = from})));
}

TEST_CASE("entropy summary and collapse", "[diagnose]") {
  rollouts r;
  r.offsets = {0, 2, 2, 5};
  r.tokens = {0, 0, 0, 0, 0};
  r.prompts = {0, 0, 0};
  r.entropies = {1, 2, 4, 8, 16};
  const entropy_summary s = summarize_entropy(r);
  CHECK(s.per_token == Approx(31.0 / 5));
  CHECK(s.per_sequence == Approx(31.0 / 3));
  CHECK(s.first_token == 2.5);
  CHECK(s.last_token == 9);
  const entropy_summary none = summarize_entropy({});
  CHECK((std::isnan(none.per_token) && std::isnan(none.per_sequence) && std::isnan(none.first_token)));
  r.entropies.pop_back();
  CHECK_THROWS_AS(summarize_entropy(r), std::invalid_argument);

  CHECK(collapsed(0.19, 1, 0.3, 0.4, 0.2));
  CHECK(!collapsed(0.21, 1, 0.3, 0.4, 0.2));
  CHECK(!collapsed(0.19, 1, 0.4, 0.4, 0.2));
  CHECK(!collapsed(not_a_number, 1, 0.3, 0.4));
  CHECK_THROWS_AS(collapsed(1, 1, 1, 1, -0.1), std::invalid_argument);
  CHECK_THROWS_AS(collapsed(1, 1, 1, 1, not_a_number), std::invalid_argument);
}

TEST_CASE("pass_at_k is the share of k-subsets with a correct one", "[diagnose]") {
  // Brute force over all subsets.
  for (std::size_t n = 1; n <= 9; ++n)
    for (std::size_t c = 0; c <= n; ++c)
      for (std::size_t k = 1; k <= n; ++k) {
        std::size_t subsets = 0, solved = 0;
        for (std::size_t bits = 0; bits < (std::size_t{1} << n); ++bits) {
          std::size_t size = 0;
          for (std::size_t i = 0; i < n; ++i) size += bits >> i & 1;
          if (size != k) continue;
          ++subsets;
          solved += (bits & ((std::size_t{1} << c) - 1)) != 0;
        }
        CHECK(pass_at_k(n, c, k) ==
              Approx(static_cast<double>(solved) / static_cast<double>(subsets)).margin(1e-15));
      }
  // The product of the original implementation: 1 - prod_{i = n-c+1}^{n} (1 - k/i).
  for (std::size_t n : {16u, 100u, 1000u})
    for (std::size_t c = 0; c <= n; c += 1 + n / 13)
      for (std::size_t k = 1; k <= n; k += 1 + n / 17) {
        double product = 1;
        for (std::size_t i = n - c + 1; i <= n; ++i)
          product *= 1 - static_cast<double>(k) / static_cast<double>(i);
        CHECK(pass_at_k(n, c, k) == Approx(n - c < k ? 1.0 : 1 - product).margin(1e-13));
      }
  const double expected[] = {.1875, .35, .607143, .9, 1};
  for (std::size_t i = 0; i < 5; ++i)
    CHECK(pass_at_k(16, 3, std::size_t{1} << i) == Approx(expected[i]).margin(5e-7));
  CHECK(pass_at_k(1000000, 1, 1000) == Approx(1e-3).epsilon(1e-12));
  CHECK(pass_at_k(1000000, 1000, 1000) > 0.6);
  CHECK_THROWS_AS(pass_at_k(4, 1, 5), std::invalid_argument);
  CHECK_THROWS_AS(pass_at_k(4, 1, 0), std::invalid_argument);
  CHECK_THROWS_AS(pass_at_k(4, 5, 2), std::invalid_argument);
}

TEST_CASE("pass_at_k over groups", "[diagnose]") {
  const std::vector<verdict> v{{1, true}, {0, true},  {0, true}, {1, true},
                               {1, true}, {1, false}, {0, true}, {0, true}};
  const groups g{{0, 3, 6, 8}};  // 1 of 3, 2 of 2, 0 of 2
  const interval i = pass_at_k(v, g, 2);
  CHECK(i.mean == Approx((2.0 / 3 + 1 + 0) / 3));
  CHECK(i == mean_interval(std::vector<double>{pass_at_k(3, 1, 2), 1, 0}));
  CHECK(pass_at_k(v, g, 2, 1.0).mean == 0);
  CHECK_THROWS_WITH(pass_at_k(v, g, 3), "pass_at_k: k is 3, but group 1 has 2 scored rollouts");
  CHECK_THROWS_AS(pass_at_k(v, g, 0), std::invalid_argument);
  CHECK_THROWS_AS(pass_at_k(v, groups{{0, 3}}, 1), std::invalid_argument);
}

TEST_CASE("Groups that do not cut the verdicts are refused by all that read them", "[diagnose]") {
  const std::vector<verdict> v(4);
  const std::vector<std::uint32_t> answers(4);
  const auto refuses = [&](std::vector<std::size_t> offsets, const std::string& why) {
    const groups g{std::move(offsets)};
    CHECK_THROWS_WITH(prompt_means(v, g), "prompt_means: " + why);
    CHECK_THROWS_WITH(average_at_k(v, g), "prompt_means: " + why);
    CHECK_THROWS_WITH(informative_share(v, g), "informative_share: " + why);
    CHECK_THROWS_WITH(pass_at_k(v, g, 1), "pass_at_k: " + why);
    CHECK_THROWS_WITH(majority_at_k(v, answers, g, 1), "majority_at_k: " + why);
  };
  refuses({0, 1000, 4}, "groups.offsets[2] = 4 is below groups.offsets[1] = 1000");
  refuses({1, 4}, "groups.offsets[0] = 1, but groups.offsets must begin with 0");
  refuses({}, "groups.offsets is empty");
  refuses({0, 3}, "groups of 3 rollouts for 4 verdicts");
}

TEST_CASE("summarize_entropy refuses damaged offsets", "[diagnose]") {
  rollouts r;
  r.offsets = {0, 900, 2};
  r.entropies = {1, 2};
  CHECK_THROWS_WITH(summarize_entropy(r), "summarize_entropy: offsets[2] = 2 is below offsets[1] = 900");
  r.offsets = {1, 2};
  CHECK_THROWS_WITH(summarize_entropy(r), "summarize_entropy: offsets[0] = 1, but offsets must begin with 0");
  r.offsets = {};
  CHECK_THROWS_WITH(summarize_entropy(r), "summarize_entropy: offsets is empty");
  r.offsets = {0, 3};
  CHECK_THROWS_WITH(summarize_entropy(r), "summarize_entropy: 2 entropies for 3 tokens");
}
