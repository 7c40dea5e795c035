/// Advantages and the coefficients made of them.

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include <rlvr/advantage/centred.hpp>
#include <rlvr/advantage/group_normalized.hpp>
#include <rlvr/backend/tabular/policy.hpp>
#include <rlvr/core/random.hpp>
#include <rlvr/objective/reinforce.hpp>

#include "catch.hpp"

using namespace rlvr;

namespace {

std::vector<verdict> verdicts_of(const std::vector<double>& rewards) {
  std::vector<verdict> out;
  for (double r : rewards) out.push_back({r, true});
  return out;
}

groups groups_with(std::vector<std::size_t> sizes) {
  groups g;
  for (std::size_t n : sizes) g.offsets.push_back(g.total() + n);
  return g;
}

template <class A>
std::vector<double> one_group(const A& a, const std::vector<double>& rewards) {
  return a(verdicts_of(rewards), groups_with({rewards.size()}));
}

/// Calls f with one estimator of each kind.
template <class F>
void for_each_estimator(F f) {
  f("centred", centred{});
  f("leave one out", centred{.against = baseline::leave_one_out});
  f("normalized", group_normalized{});
  f("normalized, ddof 0", group_normalized{.ddof = 0});
}

}  // namespace

TEST_CASE("group_normalized equals the frameworks' numbers", "[advantage]") {
  // GRPO as in verl (epsilon 1e-6), TRL (1e-4) and OpenRLHF (1e-9), all with ddof 1; six decimals.
  const std::vector<double> quarter{1, 0, 0, 0, 1, 0, 0, 0}, lone{1, 0, 0, 0, 0, 0, 0, 0};
  const auto check = [](const std::vector<double>& a, double right, double wrong) {
    CHECK(a[0] == Approx(right).margin(5e-7));
    CHECK(a[1] == Approx(wrong).margin(5e-7));
  };
  check(one_group(group_normalized{}, quarter), 1.620182, -0.540061);
  check(one_group(group_normalized{.epsilon = 1e-4}, quarter), 1.619835, -0.539945);
  check(one_group(group_normalized{.epsilon = 1e-9}, quarter), 1.620185, -0.540062);
  check(one_group(group_normalized{}, lone), 2.474867, -0.353552);
  // ddof 0: mean 1/4, deviation sqrt(3)/4.
  check(one_group(group_normalized{.ddof = 0, .epsilon = 0}, quarter), std::sqrt(3.0), -1 / std::sqrt(3.0));
}

TEST_CASE("centred subtracts the mean, of all or of the others", "[advantage]") {
  const std::vector<double> rewards{1, 0, 0, 2};
  CHECK(one_group(centred{}, rewards) == std::vector<double>{0.25, -0.75, -0.75, 1.25});
  const std::vector<double> loo = one_group(centred{.against = baseline::leave_one_out}, rewards);
  for (std::size_t i = 0; i < 4; ++i) {
    double others = 0;
    for (std::size_t j = 0; j < 4; ++j)
      if (j != i) others += rewards[j] / 3;
    CHECK(loo[i] == Approx(rewards[i] - others));
  }
}

TEST_CASE("advantages: laws", "[advantage]") {
  const random_key key(31);
  for_each_estimator([&](const std::string& name, const auto& a) {
    INFO(name);
    std::vector<double> rewards(23);
    for (std::size_t i = 0; i < rewards.size(); ++i) rewards[i] = 4 * key.uniform(i) - 1;
    const groups g = groups_with({2, 5, 1, 8, 7});
    const std::vector<double> base = a(verdicts_of(rewards), g);

    for (std::size_t q = 0; q < g.size(); ++q) {  // zero sum
      double sum = 0;
      for (std::size_t i = g.begin(q); i < g.end(q); ++i) sum += base[i];
      CHECK(sum == Approx(0).margin(1e-13));
    }
    for (double shift : {1.0, -1e6}) {  // a shift of rewards does nothing
      std::vector<double> shifted = rewards;
      for (double& r : shifted) r += shift;
      const std::vector<double> other = a(verdicts_of(shifted), g);
      for (std::size_t i = 0; i < base.size(); ++i) CHECK(other[i] == Approx(base[i]).margin(1e-8));
    }
    {  // permutation inside a group
      std::vector<double> turned = rewards;
      std::reverse(turned.begin() + 8, turned.begin() + 16);
      const std::vector<double> other = a(verdicts_of(turned), g);
      for (std::size_t i = 0; i < base.size(); ++i)
        CHECK(other[i] == Approx(base[i >= 8 && i < 16 ? 23 - i : i]).margin(1e-13));
    }
    {  // groups do not know of each other
      std::vector<double> changed = rewards;
      for (std::size_t i = 8; i < 16; ++i) changed[i] = 100 * key.uniform(i);
      const std::vector<double> other = a(verdicts_of(changed), g);
      for (std::size_t i = 0; i < base.size(); ++i)
        if (i < 8 || i >= 16) CHECK(other[i] == base[i]);
    }
    {  // an unscored rollout changes nothing for the others, and gets exactly 0
      std::vector<verdict> with = verdicts_of(rewards);
      with.insert(with.begin() + 9, verdict{std::numeric_limits<double>::quiet_NaN(), false});
      const std::vector<double> other = a(with, groups_with({2, 5, 1, 9, 7}));
      CHECK(other[9] == 0);
      for (std::size_t i = 0; i < base.size(); ++i) CHECK(other[i < 9 ? i : i + 1] == base[i]);
    }
    CHECK(base[7] == 0);  // the group of one
    CHECK(a({}, groups{}).empty());
  });
  // Scale: centred is homogeneous, normalized without epsilon is invariant.
  const std::vector<double> rewards{0.5, 2, -1, 0}, tenfold{5, 20, -10, 0};
  const auto c1 = one_group(centred{}, rewards), c10 = one_group(centred{}, tenfold);
  const auto n1 = one_group(group_normalized{.epsilon = 0}, rewards);
  const auto n10 = one_group(group_normalized{.epsilon = 0}, tenfold);
  for (std::size_t i = 0; i < 4; ++i) {
    CHECK(c10[i] == Approx(10 * c1[i]));
    CHECK(n10[i] == Approx(n1[i]));
  }
}

TEST_CASE("advantages: equal rewards give exact zeros", "[advantage]") {
  for_each_estimator([&](const std::string& name, const auto& a) {
    INFO(name);
    for (double r : {0.0, 1.0, 0.1, 1.0 / 3, 1e9 + 0.1, -7e-300})
      for (std::size_t n : {2u, 3u, 7u, 64u})
        CHECK(one_group(a, std::vector<double>(n, r)) == std::vector<double>(n, 0.0));
    // All unscored, and one scored among unscored.
    CHECK(a(std::vector<verdict>(3, {1, false}), groups_with({3})) == std::vector<double>(3, 0.0));
    CHECK(a(std::vector<verdict>{{1, true}, {0, false}}, groups_with({2})) == std::vector<double>(2, 0.0));
  });
}

TEST_CASE("advantages: a lone rollout keeps its reward when asked to", "[advantage]") {
  const groups g = groups_with({1, 2});
  const std::vector<verdict> v{{3, true}, {2, true}, {9, false}};
  CHECK(centred{.lone = lone_rollout::reward}(v, g) == std::vector<double>{3, 2, 0});
  CHECK(centred{.against = baseline::leave_one_out, .lone = lone_rollout::reward}(v, g) ==
        std::vector<double>{3, 2, 0});
  CHECK(group_normalized{.lone = lone_rollout::reward}(v, g)[0] == Approx(3 / (1 + 1e-6)));
}

TEST_CASE("advantages: bad input is named", "[advantage]") {
  constexpr double nan = std::numeric_limits<double>::quiet_NaN(),
                   infinity = std::numeric_limits<double>::infinity();
  for_each_estimator([&](const std::string& name, const auto& a) {
    INFO(name);
    CHECK_THROWS_WITH(one_group(a, {0, 1, nan}), "advantages: reward 2 is nan");
    CHECK_THROWS_WITH(one_group(a, {0, infinity}), "advantages: reward 1 is inf");
    CHECK_THROWS_WITH(a(verdicts_of({0, 1}), groups_with({3})),
                      "advantages: groups of 3 rollouts for 2 verdicts");
    CHECK_THROWS_WITH(a(verdicts_of({0, 1}), groups_with({2, 0})),
                      "advantages: group 1 is [2, 2), which is empty");
    CHECK_THROWS_WITH(a(verdicts_of({0, 1}), groups{{1, 2}}), "advantages: groups begin at 1, expected 0");
  });
  CHECK_THROWS_WITH(one_group(group_normalized{.ddof = 2}, {0, 1}),
                    "group_normalized: ddof is 2, expected 0 or 1");
  CHECK_THROWS_AS(one_group(group_normalized{.epsilon = -1}, {0, 1}), std::invalid_argument);
  CHECK_THROWS_AS(one_group(group_normalized{.epsilon = nan}, {0, 1}), std::invalid_argument);
}

TEST_CASE("reinforce_coefficients give each token its rollout's advantage", "[objective]") {
  rollouts r;
  r.offsets = {0, 2, 2, 5};
  r.tokens = {1, 2, 3, 4, 5};
  r.prompts = {0, 0, 1};
  CHECK(reinforce_coefficients(r, std::vector<double>{1, 5, -2}, 0.5) ==
        std::vector<double>{0.5, 0.5, -1, -1, -1});
  CHECK(reinforce_coefficients(rollouts{}, {}, 1).empty());
  CHECK_THROWS_WITH(reinforce_coefficients(r, std::vector<double>{1, 2}, 1),
                    "reinforce_coefficients: 2 advantages for 3 rollouts");
  CHECK_THROWS_WITH(reinforce_coefficients(r, std::vector<double>{1, 2, std::nan("")}, 1),
                    "reinforce_coefficients: advantage 2 is nan");
  CHECK_THROWS_WITH(reinforce_coefficients(r, std::vector<double>{1, 2, 3}, std::nan("")),
                    "reinforce_coefficients: weight is nan");
}

TEST_CASE("the centred policy gradient is the gradient of the expected reward", "[advantage][objective]") {
  // 2 prompts x 3 completions. With G rollouts a prompt, E[g] = (G-1)/G grad J for the group mean and grad J
  // for leave-one-out, J the mean over prompts. Enumerated over all 9 pairs of completions of each prompt, G
  // = 2.
  const std::vector<double> logits{0.2, -0.5, 1.0, 0.0, 0.7, -1.1};
  const std::vector<double> reward{1, 0, 0.5, 0, 0, 1};
  tabular::policy policy(logits, 3);
  std::vector<double> weights = reward;
  for (double& w : weights) w /= 2;
  const std::vector<double> exact = policy.expectation_gradient(weights);
  for (const auto& [estimator, factor] :
       {std::pair{centred{}, 0.5}, {centred{.against = baseline::leave_one_out}, 1.0}}) {
    std::vector<double> expected(6);
    for (std::uint32_t row = 0; row < 2; ++row)
      for (token j = 0; j < 3; ++j)
        for (token k = 0; k < 3; ++k) {
          rollouts r;
          r.offsets = {0, 1, 2};
          r.tokens = {j, k};
          r.prompts = {row, row};
          for (token t : r.tokens)
            r.verdicts.push_back({reward[row * 3 + static_cast<std::size_t>(t)], true});
          const std::vector<double> p = policy.distribution(row);
          const double probability = p[static_cast<std::size_t>(j)] * p[static_cast<std::size_t>(k)];
          const std::vector<double> a = estimator(r.verdicts, groups_of(r.prompts));
          policy.accumulate_score(policy.prompts(), r, reinforce_coefficients(r, a, probability / 4), 1.0,
                                  expected);
        }
    for (std::size_t i = 0; i < 6; ++i) CHECK(expected[i] == Approx(factor * exact[i]).margin(1e-14));
  }
}
