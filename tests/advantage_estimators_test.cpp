/// Estimators of one advantage per rollout against closed forms, brute force and published numbers.

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include <rlvr/advantage/beta_normalized.hpp>
#include <rlvr/advantage/by_outcome.hpp>
#include <rlvr/advantage/centred.hpp>
#include <rlvr/advantage/component_normalized.hpp>
#include <rlvr/advantage/greedy_baseline.hpp>
#include <rlvr/advantage/group_normalized.hpp>
#include <rlvr/advantage/length_weighted.hpp>
#include <rlvr/advantage/mean_normalized.hpp>
#include <rlvr/advantage/pass_at_k_normalized.hpp>
#include <rlvr/advantage/rank_based.hpp>
#include <rlvr/advantage/signal_scaled.hpp>
#include <rlvr/advantage/top_gap.hpp>
#include <rlvr/advantage/tracked_baseline.hpp>
#include <rlvr/advantage/virtual_reward.hpp>

#include "advantage_worlds.hpp"
#include "catch.hpp"

using namespace rlvr;
using namespace advantage_worlds;

namespace {

/// Compares advantage i with f(group, rank of i among the scored, scored rewards of its group); unscored ones are 0.
template <class F>
void check_each(const world& w, const std::vector<double>& got, F f, double tolerance = 1e-11) {
  REQUIRE(got.size() == w.verdicts.size());
  for (std::size_t g = 0; g < w.groups.size(); ++g) {
    const std::vector<double> r = w.rewards(g);
    for (std::size_t i = w.groups.begin(g), k = 0; i < w.groups.end(g); ++i) {
      INFO("group " << g << ", rollout " << i);
      if (!w.verdicts[i].scored) {
        CHECK(got[i] == 0);
        continue;
      }
      const double expected = f(g, i, k++, r);
      CHECK(std::fabs(got[i] - expected) <= tolerance * (1 + std::fabs(expected)));
    }
  }
}

}  // namespace

TEST_CASE("length_weighted: the baseline is the mean reward of a token", "[advantage]") {
  for (std::uint64_t seed = 0; seed < 10; ++seed) {
    const world w(seed);
    for (lone_rollout lone : {lone_rollout::zero, lone_rollout::reward}) {
      const std::vector<double> a = length_weighted{lone}(w.verdicts, w.groups, w.token_counts);
      check_each(w, a, [&](std::size_t g, std::size_t, std::size_t k, const std::vector<double>& r) {
        if (r.size() == 1) return lone == lone_rollout::reward ? r[0] : 0.0;
        std::vector<double> tokens;  // the reward of every token
        for (std::size_t i = w.groups.begin(g); i < w.groups.end(g); ++i)
          if (w.verdicts[i].scored) tokens.insert(tokens.end(), w.token_counts[i], w.verdicts[i].reward);
        return tokens.empty() ? 0.0 : r[k] - mean(tokens);
      });
    }
  }
  // Equal lengths: the group mean.
  const world w(3);
  const std::vector<double> a = length_weighted{}(w.verdicts, w.groups, std::vector<std::size_t>(w.verdicts.size(), 9));
  const std::vector<double> b = centred{}(w.verdicts, w.groups);
  for (std::size_t i = 0; i < a.size(); ++i) CHECK(a[i] == near(b[i]).margin(1e-15));
  CHECK(length_weighted{}(verdicts_of({.1, .1, .1}), groups_with({3}), std::vector<std::size_t>{3, 7, 1}) ==
        std::vector<double>(3, 0.0));
  CHECK_THROWS_WITH(length_weighted{}(verdicts_of({1, 0}), groups_with({2}), std::vector<std::size_t>{1}),
                    "length_weighted: 1 token counts for 2 verdicts");
}

TEST_CASE("signal_scaled: both meanings of a signal", "[advantage]") {
  // Groups {1, 0, 0}, {0, 0}, {1, 1}, and an unscored rollout: 7 scored, 3 not zero, 3 in a group that varies.
  std::vector<verdict> v = verdicts_of({1, 0, 0, 0, 0, 1, 1});
  v.push_back({1, false});
  const groups g = groups_with({3, 2, 3});
  const std::vector<double> verl = signal_scaled{}(v, g), paper = signal_scaled{signal_kind::informative_group}(v, g);
  const std::vector<double> plain = centred{}(v, g);
  for (std::size_t i = 0; i < v.size(); ++i) {
    CHECK(verl[i] == near(plain[i] * 7 / 3));
    CHECK(paper[i] == near(plain[i] / (3.0 / 7 + 1e-5)));
  }
  CHECK(signal_scaled{.divisor = 2}(v, g)[0] == near(plain[0] * 7 / 6));
  CHECK(one_group(signal_scaled{}, {0, 0}) == std::vector<double>{0, 0});  // no signal: alpha = B, advantages 0
  CHECK(signal_scaled{.lone = lone_rollout::reward}(verdicts_of({3, 0, 0}), groups_with({1, 2}))[0] == near(9));
  CHECK_THROWS_WITH(one_group(signal_scaled{.divisor = 0}, {0, 1}), "signal_scaled: divisor is 0");
}

TEST_CASE("mean_normalized is the gradient of log of the success rate", "[advantage]") {
  for (std::uint64_t seed = 0; seed < 6; ++seed) {
    const world w(seed);
    check_each(w, mean_normalized{}(w.verdicts, w.groups),
               [](std::size_t, std::size_t, std::size_t k, const std::vector<double>& r) {
                 return r.size() < 2 ? 0.0 : (r[k] - mean(r)) / (mean(r) + 1e-6);
               });
  }
  // One of eight: the winner weighs 1/p - 1 = 7, the losers -1.
  const std::vector<double> a = one_group(mean_normalized{.epsilon = 0}, {1, 0, 0, 0, 0, 0, 0, 0});
  CHECK(a[0] == 7);
  CHECK(a[1] == -1);
  CHECK(one_group(mean_normalized{}, {0, 0}) == std::vector<double>{0, 0});
  CHECK(one_group(mean_normalized{.lone = lone_rollout::reward}, {3}) == std::vector<double>{3});
  CHECK_THROWS_WITH(one_group(mean_normalized{}, {1, -0.5}), "mean_normalized: reward 1 is -0.5, expected at least 0");
  CHECK_THROWS_WITH(one_group(mean_normalized{.epsilon = -1}, {1, 0}), "mean_normalized: epsilon is -1");
}

TEST_CASE("top_gap: only the single best rollout learns", "[advantage]") {
  for (std::uint64_t seed = 0; seed < 6; ++seed)
    for (scaling scale : {scaling::deviation, scaling::none}) {
      const world w(seed);
      check_each(w, top_gap{scale}(w.verdicts, w.groups),
                 [&](std::size_t, std::size_t, std::size_t k, std::vector<double> r) {
                   const double own = r[k], f = 1 / (std::sqrt(variance(r)) + 1e-6);
                   if (r.size() < 2) return 0.0;
                   std::sort(r.rbegin(), r.rend());
                   if (own < r[0] || r[0] == r[1]) return 0.0;
                   return (r[0] - r[1]) * (scale == scaling::none ? 1 : f);
                 });
    }
  CHECK(one_group(top_gap{scaling::none}, {3, 1, 2}) == std::vector<double>{1, 0, 0});
  CHECK(one_group(top_gap{scaling::none}, {1, 2, 2}) == std::vector<double>{0, 0, 0});
}

TEST_CASE("pass_at_k_normalized is the mean over all k-subsets", "[advantage]") {
  const random_key key(8);
  for (std::size_t n = 1; n <= 9; ++n)
    for (std::size_t right = 0; right <= n; ++right)
      for (std::size_t k = 1; k <= n + 1; ++k) {
        std::vector<double> rewards(n, 0.0);
        for (std::size_t i = 0; i < right; ++i) rewards[i] = 1;
        shuffle(rewards, key.fold(n).fold(right));
        std::vector<double> of_subset, sum(n), count(n);
        for (std::size_t pass = 0; pass < 2; ++pass) {
          const double mu = pass ? mean(of_subset) : 0, s = pass ? std::sqrt(variance(of_subset, 0)) : 1;
          for (unsigned m = 0; k <= n && m < (1u << n); ++m) {
            std::size_t size = 0;
            double reward = 0;
            for (std::size_t i = 0; i < n; ++i)
              if (m >> i & 1) ++size, reward = std::max(reward, rewards[i]);
            if (size != k) continue;
            if (!pass) of_subset.push_back(reward);
            for (std::size_t i = 0; pass && i < n; ++i)
              if (m >> i & 1) sum[i] += s > 1e-12 ? (reward - mu) / s : 0, ++count[i];
          }
        }
        const std::vector<double> a = one_group(pass_at_k_normalized{.k = k}, rewards);
        for (std::size_t i = 0; i < n; ++i) {
          CAPTURE(n, right, k, i);
          CHECK(a[i] == near(count[i] > 0 ? sum[i] / count[i] : 0).margin(1e-12));
        }
      }
  const std::vector<double> rewards{1, 0, 0, 1, 0};
  const std::vector<double> one = one_group(pass_at_k_normalized{.k = 1}, rewards);
  const std::vector<double> grpo = one_group(group_normalized{.ddof = 0, .epsilon = 0}, rewards);
  for (std::size_t i = 0; i < 5; ++i) CHECK(one[i] == near(grpo[i]));
  // A subset without a right rollout may be rarer than any double: nothing is left to learn.
  std::vector<double> half(3000);
  std::fill_n(half.begin(), 1500, 1.0);
  CHECK(one_group(pass_at_k_normalized{.k = 1500}, half) == std::vector<double>(3000));
  CHECK_THROWS_WITH(one_group(pass_at_k_normalized{.k = 0}, {0, 1}), "pass_at_k_normalized: k is 0");
}

TEST_CASE("beta_normalized divides by the fitted density", "[advantage]") {
  // Densities whose inverse is elementary: Beta(1, 1) = 1, Beta(2, 2) = 6 p (1 - p), Beta(3, 1) = 3 p^2.
  for (double p : {0.1, 0.5, 0.9}) {
    CHECK(beta_normalized::inverse_density(p, 1, 1) == near(1).epsilon(1e-14));
    CHECK(beta_normalized::inverse_density(p, 2, 2) == near(1 / (6 * p * (1 - p))).epsilon(1e-13));
    CHECK(beta_normalized::inverse_density(p, 3, 1) == near(1 / (3 * p * p)).epsilon(1e-13));
  }
  CHECK(beta_normalized::inverse_density(0, 1, 1) == near(1));
  CHECK(beta_normalized::inverse_density(0, 2, 1) == 1e6);
  CHECK(beta_normalized::inverse_density(1, 1, 2) == 1e6);

  for (std::uint64_t seed = 0; seed < 8; ++seed) {
    const world w(seed);
    std::vector<double> p;
    for (std::size_t g = 0; g < w.groups.size(); ++g)
      if (!w.rewards(g).empty()) p.push_back(mean(w.rewards(g)));
    const double mu = mean(p), v = variance(p), c = mu * (1 - mu) / v - 1;
    const double alpha = std::max(1 + c * mu / 3, 1.0), beta = std::max(1 + c * (1 - mu) / 3, 1.0);
    check_each(w, beta_normalized{}(w.verdicts, w.groups),
               [&](std::size_t, std::size_t, std::size_t k, const std::vector<double>& r) {
                 const double q = mean(r);
                 const double density = std::tgamma(alpha + beta) / std::tgamma(alpha) / std::tgamma(beta) *
                                        std::pow(q, alpha - 1) * std::pow(1 - q, beta - 1);
                 return r[k] == q ? 0.0 : (r[k] - q) * std::min(1 / density, 1e6);
               });
  }
  // One group, or groups of equal means: REINFORCE with the group mean.
  CHECK(one_group(beta_normalized{}, {1, 0, 0, 1}) == std::vector<double>{.5, -.5, -.5, .5});
  CHECK(beta_normalized{}(verdicts_of({1, 0, 0, 1}), groups_with({2, 2})) == std::vector<double>{.5, -.5, -.5, .5});
  // Means that are equal up to the order of addition are equal: 1 - 2/3 is not 1/3 in doubles.
  const std::vector<double> permuted = beta_normalized{}(verdicts_of({1, 0, 0, 0, 1, 0}), groups_with({3, 3}));
  for (std::size_t i = 0; i < 6; ++i) CHECK(permuted[i] == near(i == 0 || i == 4 ? 2 / 3. : -1 / 3.));
  // Nearly equal means stay finite, and close to the limit of a narrow density: 1/f = s sqrt(2 pi).
  std::vector<double> rewards;
  for (int g = 0; g < 2; ++g) rewards.insert(rewards.end(), {1, g * 1e-6});
  const std::vector<double> narrow = beta_normalized{}(verdicts_of(rewards), groups_with({2, 2}));
  for (double a : narrow) CHECK((std::isfinite(a) && a != 0));
  CHECK_THROWS_WITH(one_group(beta_normalized{}, {1, 1.5}),
                    "beta_normalized: reward 1 is 1.5, expected between 0 and 1");
}

TEST_CASE("virtual_reward: a group that failed has something to learn from", "[advantage]") {
  for (double a : one_group(virtual_reward{}, std::vector<double>(8, 0.0))) CHECK(a == near(-0.333332).margin(1e-6));
  CHECK(one_group(virtual_reward{}, std::vector<double>(8, 1.0)) == std::vector<double>(8, 0.0));
  for (std::uint64_t seed = 0; seed < 6; ++seed) {
    const world w(seed);
    check_each(w, virtual_reward{.reward = 2}(w.verdicts, w.groups),
               [](std::size_t, std::size_t, std::size_t k, std::vector<double> r) {
                 const double own = r[k];
                 r.push_back(2);
                 return (own - mean(r)) / (std::sqrt(variance(r)) + 1e-6);
               });
  }
  CHECK_THROWS_WITH(one_group(virtual_reward{.reward = infinity}, {0}), "virtual_reward: reward is inf");
}

TEST_CASE("rank_based: only the order counts, ties share their ranks", "[advantage]") {
  // Ranks 1, 2.5, 2.5, 4: scores 1, .5, .5, 0.
  CHECK(one_group(rank_based{}, {9, 2, 2, -100}) == std::vector<double>{.5, 0, 0, -.5});
  CHECK(one_group(rank_based{.zero = rank_zero::best}, {-.1, -.2, -.2, -.9}) == std::vector<double>{0, -.5, -.5, -1});
  // Two best: rank 1.5 is the zero.
  CHECK(one_group(rank_based{.zero = rank_zero::best, .weight = 2}, {.3, .3, 0}) == std::vector<double>{0, 0, -1.5});
  for (std::uint64_t seed = 0; seed < 6; ++seed) {
    const world w(seed);
    check_each(w, rank_based{}(w.verdicts, w.groups),
               [](std::size_t, std::size_t, std::size_t k, const std::vector<double>& r) {
                 double higher = 0, equal = 0;  // rank = 1 + higher + (equal - 1) / 2
                 for (double x : r) higher += x > r[k], equal += x == r[k];
                 if (r.size() < 2) return 0.0;
                 return 0.5 - (higher + (equal - 1) / 2) / static_cast<double>(r.size() - 1);
               });
    std::vector<verdict> cubed = w.verdicts;  // an increasing map changes nothing
    for (verdict& v : cubed) v.reward = std::exp(3 * v.reward);
    for (verdict& v : cubed)
      if (!v.scored) v.reward = not_a_number;
    CHECK(rank_based{}(cubed, w.groups) == rank_based{}(w.verdicts, w.groups));
  }
  CHECK_THROWS_WITH(one_group(rank_based{.weight = infinity}, {0, 1}), "rank_based: weight is inf");
}

TEST_CASE("by_outcome treats groups by how they came out", "[advantage]") {
  // mixed; all wrong but graded; all right; all wrong with an unscored rollout; nothing scored.
  std::vector<verdict> v = verdicts_of({1, 0, .1, .3, 0, 1, 1, .2});
  v.insert(v.end(), {{1, false}, {.4, true}, {1, false}});
  const groups g = groups_with({2, 3, 2, 3, 1});
  const std::vector<double> a = by_outcome<>{}(v, g);
  const double s = std::sqrt(.5) / (1 + 1e-6 / std::sqrt(.5));
  const std::vector<double> expected{s, -s, -.5, 0, -1, 0, 0, -1, 0, 0, 0};
  for (std::size_t i = 0; i < a.size(); ++i) CHECK(a[i] == near(expected[i]).margin(1e-9));
  // The other default for failures given by hand keeps its own options.
  const by_outcome<centred, constant_advantage, constant_advantage> signs{.all_right = {1}, .all_wrong = {-1}};
  CHECK(signs(v, g) == std::vector<double>{.5, -.5, -1, -1, -1, 1, 1, -1, 0, -1, 0});
  // NGRPO on failures only.
  const by_outcome<group_normalized, constant_advantage, virtual_reward> ngrpo;
  CHECK(ngrpo(verdicts_of({0, 0, 0, 0, 0, 0, 0, 0}), groups_with({8}))[3] == near(-0.333332).margin(1e-6));
  CHECK_THROWS_WITH(by_outcome<>{.correct_above = not_a_number}(v, g), "by_outcome: correct_above is nan");
  CHECK_THROWS_WITH(one_group(constant_advantage{not_a_number}, {0}), "constant_advantage: value is nan");
}

TEST_CASE("sign_weighted and correctness_relative break the symmetry", "[advantage]") {
  CHECK(one_group(sign_weighted<centred>{.positive = 0.1}, {1, 0, 0, 1}) ==
        std::vector<double>{.5 * .1, -.5, -.5, .5 * .1});
  CHECK(one_group(sign_weighted<centred>{.positive = 0, .negative = 2}, {1, 0}) == std::vector<double>{0, -1});
  CHECK_THROWS_WITH(one_group(sign_weighted<centred>{.negative = -1}, {1, 0}), "sign_weighted: negative is -1");
  // Below the threshold no failure gains; above it the mean is the baseline.
  CHECK(one_group(correctness_relative{.least_correct = 0}, {-1, -.8, -.9, -.7}) ==
        std::vector<double>{-1, -.8, -.9, -.7});
  CHECK(one_group(correctness_relative{.least_correct = 1}, {1, 2, 3}) == std::vector<double>{-1, 0, 1});
  CHECK(one_group(correctness_relative{.least_correct = 1}, {1, 0}) == std::vector<double>{0, -1});
}

TEST_CASE("component_normalized normalises each reward before adding", "[advantage]") {
  const std::vector<verdict> correct = verdicts_of({1, 0, 0, 0, 1, 1}), format = verdicts_of({0, 1, 0, 1, 1, 0});
  const std::vector<std::span<const verdict>> parts{correct, format};
  const groups g = groups_with({3, 3});
  const std::vector<double> a = group_normalized{}(correct, g), b = group_normalized{}(format, g);
  std::vector<double> sum(6);
  for (std::size_t i = 0; i < 6; ++i) sum[i] = 2 * a[i] + 0.5 * b[i];
  const component_normalized<> trl{.weights = {2, 0.5}};
  const std::vector<double> got = trl(parts, g);
  for (std::size_t i = 0; i < 6; ++i) CHECK(got[i] == near((sum[i] - mean(sum)) / (std::sqrt(variance(sum)) + 1e-4)));
  // Over tokens.
  const component_normalized<> verl{.weights = {2, 0.5},
                                    .over_batch = {.epsilon = 1e-8, .place = epsilon_place::beside_variance}};
  const std::vector<std::size_t> tokens{1, 2, 3, 4, 5, 6};
  std::vector<double> per_token;
  for (std::size_t i = 0; i < 6; ++i) per_token.insert(per_token.end(), tokens[i], sum[i]);
  const std::vector<double> whitened = verl(parts, g, tokens);
  for (std::size_t i = 0; i < 6; ++i)
    CHECK(whitened[i] == near((sum[i] - mean(per_token)) / std::sqrt(variance(per_token) + 1e-8)));

  // A rollout that one component could not score keeps what the other gives; one without any score gets 0.
  std::vector<verdict> c = correct, f = format;
  c[0].scored = c[1].scored = f[1].scored = false;
  c[1].reward = not_a_number;
  f[2].reward = 1;
  const std::vector<std::span<const verdict>> holes{c, f};
  const std::vector<double> h = component_normalized<>{}(holes, g);
  CHECK(h[1] == 0);
  CHECK(h[0] != 0);
  double total = 0;
  for (double x : h) total += x;
  CHECK(total == near(0).margin(1e-12));

  CHECK_THROWS_WITH(component_normalized<>{}({}, g), "component_normalized: there are no components");
  CHECK_THROWS_WITH((component_normalized<>{.weights = {1}}(parts, g)),
                    "component_normalized: 1 weights for 2 components");
  CHECK_THROWS_WITH((component_normalized<>{.weights = {1, infinity}}(parts, g)),
                    "component_normalized: weight 1 is inf");
  CHECK_THROWS_AS(component_normalized<>{}(parts, groups_with({3, 4})), std::invalid_argument);
  CHECK_THROWS_WITH(component_normalized<>{}(parts, g, std::vector<std::size_t>{1}),
                    "component_normalized: 1 token counts for 6 rollouts");
}

TEST_CASE("greedy_baseline compares with one greedy completion per prompt", "[advantage]") {
  std::vector<verdict> v = verdicts_of({1, 0, 3, 4, 5});
  v[1] = {not_a_number, false};
  const groups g = groups_with({2, 1, 2});
  const std::vector<verdict> greedy{{.5}, {1}, {not_a_number, false}};
  CHECK(greedy_baseline(v, g, greedy) == std::vector<double>{.5, 0, 2, 0, 0});
  CHECK_THROWS_WITH(greedy_baseline(v, g, verdicts_of({1, 2})), "greedy_baseline: 2 greedy verdicts for 3 groups");
  CHECK_THROWS_WITH(greedy_baseline(v, g, verdicts_of({1, infinity, 2})), "greedy_baseline: greedy reward 1 is inf");
}

TEST_CASE("success_tracker follows a prompt's success rate", "[advantage]") {
  success_tracker t(3);
  CHECK(t.value(0) == 0.5);
  t.start(1, 3, 8);  // the weight of 8 rollouts
  CHECK(t.alpha[1] == near(8 * 3.5 / 9));
  CHECK(t.beta[1] == near(8 * 5.5 / 9));
  CHECK(t.value(1) == near(3.5 / 9));
  t.start(2, 0, 0);
  CHECK(t.value(2) == 0.5);
  CHECK(t.memory(0) == 0.96);
  CHECK(t.memory(0.006) == near(std::pow(2, -0.1)));
  CHECK(t.memory(0.06) == 0.875);
  CHECK(t.memory(infinity) == 0.875);
  // The update is a moving average: v += eta (R - v), eta = 1 / (rho (alpha + beta) + 1).
  const double v = t.value(1), eta = 1 / (0.875 * (t.alpha[1] + t.beta[1]) + 1);
  t.observe(1, {1, true}, 1.0);
  CHECK(t.value(1) == near(v + eta * (1 - v)));
  const success_tracker before = t;
  t.observe(1, {not_a_number, false});
  CHECK_THROWS_WITH(t.observe(1, {2, true}), "success_tracker: reward of prompt 1 is 2, expected between 0 and 1");
  CHECK_THROWS_WITH(t.observe(1, {1, true}, -1), "success_tracker: drift is -1");
  CHECK_THROWS_WITH(t.observe(3, {1, true}), "success_tracker: prompt 3, but there are 3");
  CHECK_THROWS_AS(t.start(0, 2, 1), std::invalid_argument);
  CHECK((t.alpha == before.alpha && t.beta == before.beta));
  CHECK_THROWS_AS(success_tracker(1, {.least_memory = 0.99}), std::invalid_argument);
}

TEST_CASE("tracked_advantages are whitened over the batch", "[advantage]") {
  success_tracker t(2);
  t.start(1, 7, 8);
  const std::vector<verdict> v{{1}, {0}, {9, false}, {1}};
  const std::vector<std::uint32_t> prompts{0, 1, 0, 1};
  const std::vector<double> a = tracked_advantages(v, prompts, t);
  const std::vector<double> raw{.5, -7.5 / 9, 1 - 7.5 / 9};
  for (std::size_t i = 0, k = 0; i < 4; ++i)
    CHECK(a[i] == near(i == 2 ? 0 : (raw[k++] - mean(raw)) / (std::sqrt(variance(raw)) + 1e-8)));
  CHECK(tracked_advantages(verdicts_of({1}), std::vector<std::uint32_t>{0}, t) == std::vector<double>{0});
  CHECK_THROWS_WITH(tracked_advantages(verdicts_of({1, not_a_number}), std::vector<std::uint32_t>{0, 1}, t),
                    "tracked_advantages: reward 1 is nan");
  CHECK_THROWS_WITH(tracked_advantages(v, std::vector<std::uint32_t>{0}, t),
                    "tracked_advantages: 1 prompts for 4 verdicts");
}
