/// The normaliser against its written formula, its presets, and whitening.

#include <cmath>
#include <string>
#include <vector>

#include <rlvr/advantage/centred.hpp>
#include <rlvr/advantage/group_normalized.hpp>
#include <rlvr/advantage/normalizer.hpp>
#include <rlvr/advantage/whitening.hpp>

#include "advantage_worlds.hpp"
#include "catch.hpp"

using namespace rlvr;
using namespace advantage_worlds;

namespace {

double factor(const deviation& d, double variance) {
  if (d.place == epsilon_place::beside_deviation) return 1 / (std::sqrt(variance) + d.epsilon);
  if (d.place == epsilon_place::beside_variance) return 1 / std::sqrt(variance + d.epsilon);
  return 1 / std::sqrt(std::max(variance, d.epsilon));
}

/// The docstring's formula, written with every loop.
std::vector<double> by_the_book(const normalizer& a, const world& w) {
  std::vector<double> all, centred_all;
  std::vector<std::size_t> place;
  for (std::size_t i = 0; i < w.verdicts.size(); ++i)
    if (w.verdicts[i].scored) all.push_back(w.verdicts[i].reward);
  const auto scale = [&](double v) {
    return v == 0 ? (a.constant == zero_variance::unscaled ? 1.0 : 0.0) : factor(a.deviation, v);
  };
  std::vector<double> out(w.verdicts.size());
  for (std::size_t g = 0; g < w.groups.size(); ++g) {
    const std::vector<double> r = w.rewards(g);
    for (std::size_t i = w.groups.begin(g), k = 0; i < w.groups.end(g); ++i) {
      if (!w.verdicts[i].scored) continue;
      const bool within = a.baseline == moment_scope::group || a.baseline == moment_scope::leave_one_out;
      double x = r[k];
      if (r.size() == 1 && within) {
        x = a.lone == lone_rollout::reward ? x : 0;
        if (a.spread == moment_scope::group || a.spread == moment_scope::leave_one_out) x *= factor(a.deviation, 1);
      } else {
        if (a.baseline == moment_scope::group) x -= mean(r);
        if (a.baseline == moment_scope::leave_one_out) x -= mean(without(r, k));
        if (a.baseline == moment_scope::batch) x -= mean(all);
        if (a.spread == moment_scope::group) x *= scale(variance(r, a.deviation.ddof));
        if (a.spread == moment_scope::leave_one_out) x *= scale(variance(without(r, k), a.deviation.ddof));
      }
      out[i] = x;
      ++k;
    }
  }
  std::vector<double> known;
  for (std::size_t i = 0; i < out.size(); ++i)
    if (w.verdicts[i].scored) known.push_back(out[i]);
  if (a.spread == moment_scope::batch) {
    const double f = scale(variance(a.of == deviation_of::rewards ? all : known, a.deviation.ddof));
    for (double& x : out) x *= f;
  }
  if (a.spread == moment_scope::tokens) {  // every token an observation
    std::vector<double> tokens;
    for (std::size_t i = 0; i < out.size(); ++i)
      if (w.verdicts[i].scored) tokens.insert(tokens.end(), w.token_counts[i], out[i]);
    for (std::size_t i = 0; i < out.size(); ++i)
      out[i] = w.verdicts[i].scored && w.token_counts[i] > 0
                   ? (out[i] - mean(tokens)) * factor(a.deviation, variance(tokens, a.deviation.ddof))
                   : 0.0;
  }
  return out;
}

}  // namespace

TEST_CASE("normalizer equals its formula for every choice", "[advantage]") {
  using scope = moment_scope;
  for (std::uint64_t seed = 0; seed < 12; ++seed) {
    const world w(seed);
    for (scope baseline : {scope::none, scope::group, scope::leave_one_out, scope::batch})
      for (scope spread : {scope::none, scope::group, scope::leave_one_out, scope::batch, scope::tokens})
        for (deviation_of of : {deviation_of::rewards, deviation_of::centred})
          for (epsilon_place place :
               {epsilon_place::beside_deviation, epsilon_place::beside_variance, epsilon_place::variance_floor})
            for (std::size_t variant = 0; variant < 4; ++variant) {
              const normalizer a{
                  .baseline = baseline,
                  .spread = spread,
                  .of = of,
                  .deviation = {.ddof = variant % 2, .epsilon = variant < 2 ? 1e-4 : 0.03, .place = place},
                  .constant = variant % 2 ? zero_variance::unscaled : zero_variance::zero,
                  .lone = variant < 2 ? lone_rollout::zero : lone_rollout::reward};
              const std::vector<double> expected = by_the_book(a, w);
              const std::vector<double> got =
                  spread == scope::tokens ? a(w.verdicts, w.groups, w.token_counts) : a(w.verdicts, w.groups);
              bool same = got.size() == expected.size();
              for (std::size_t i = 0; same && i < got.size(); ++i)
                same = std::fabs(got[i] - expected[i]) <= 1e-9 * (1 + std::fabs(expected[i]));
              if (!same) {
                CAPTURE(seed, static_cast<int>(baseline), static_cast<int>(spread), static_cast<int>(of),
                        static_cast<int>(place), variant);
                CHECK(got == expected);
              }
              REQUIRE(same);
            }
  }
}

TEST_CASE("normalizer: its presets are the types of those names, bit for bit", "[advantage]") {
  for (std::uint64_t seed = 20; seed < 40; ++seed) {
    const world w(seed);
    for (lone_rollout lone : {lone_rollout::zero, lone_rollout::reward}) {
      CHECK(normalizer{.lone = lone}(w.verdicts, w.groups) == group_normalized{.lone = lone}(w.verdicts, w.groups));
      CHECK(normalizer{.deviation = {.ddof = 0, .epsilon = 1e-4}, .lone = lone}(w.verdicts, w.groups) ==
            group_normalized{.ddof = 0, .epsilon = 1e-4, .lone = lone}(w.verdicts, w.groups));
      CHECK(normalizer{.spread = moment_scope::none, .lone = lone}(w.verdicts, w.groups) ==
            centred{.lone = lone}(w.verdicts, w.groups));
      CHECK(normalizer{.baseline = moment_scope::leave_one_out, .spread = moment_scope::none, .lone = lone}(w.verdicts,
                                                                                                            w.groups) ==
            centred{.against = baseline::leave_one_out, .lone = lone}(w.verdicts, w.groups));
    }
  }
}

TEST_CASE("leave_one_out_normalized gives NeMo-RL's numbers", "[advantage]") {
  const auto check = [](const std::vector<double>& rewards, double right, double wrong) {
    const std::vector<double> a = one_group(leave_one_out_normalized(), rewards);
    CHECK(a[0] == near(right).margin(5e-7));
    CHECK(a[1] == near(wrong).margin(5e-7));
  };
  check({1, 0, 0, 0, 1, 0, 0, 0}, 2.267781, -0.585539);
  check({1, 0, 0, 0, 0, 0, 0, 0}, 1.0, -0.377963);  // the only winner is not divided: the others do not vary
  // Two rollouts: the deviation of one other is unknown, nothing is divided.
  CHECK(one_group(leave_one_out_normalized(), {1, 0}) == std::vector<double>{1, -1});
  // The zero policy drops the winner instead.
  normalizer zero = leave_one_out_normalized();
  zero.constant = zero_variance::zero;
  const std::vector<double> a = one_group(zero, {1, 0, 0, 0});
  CHECK(a[0] == 0);
  CHECK(a[1] < 0);
  // An outlier of 1e9 does not blur the deviation of the others: no subtraction of squares.
  const std::vector<double> far = one_group(leave_one_out_normalized(0), {1e9, 1, 2, 3});
  CHECK(far[0] == near(1e9 - 2));  // over a deviation of 1
}

TEST_CASE("batch_normalized: raw or centred rewards under the deviation", "[advantage]") {
  const std::vector<verdict> v = verdicts_of({1, 0, 5, 6});
  const groups g = groups_with({2, 2});
  const double raw = std::sqrt(variance({1, 0, 5, 6})), rest = std::sqrt(variance({.5, -.5, -.5, .5}));
  const std::vector<double> trl = batch_normalized()(v, g), roll = batch_normalized(deviation_of::centred)(v, g);
  CHECK(trl[0] == near(.5 / (raw + 1e-4)));
  CHECK(roll[0] == near(.5 / (rest + 1e-6)));
  CHECK(batch_normalized()(verdicts_of({2, 2, 2}), groups_with({1, 2})) == std::vector<double>(3, 0.0));
}

TEST_CASE("token_whitened weighs rollouts by their tokens", "[advantage]") {
  // Centred: .5, -.5, 0 (alone); tokens 3, 1, 2: mean 1/6, variance (3/4 + 1/4 - 6/36) / 5 = 1/6.
  const std::vector<verdict> v = verdicts_of({1, 0, 7});
  const groups g = groups_with({2, 1});
  const std::vector<std::size_t> tokens{3, 1, 2};
  const std::vector<double> a = token_whitened()(v, g, tokens);
  const double f = 1 / std::sqrt(1.0 / 6 + 1e-8);
  CHECK(a[0] == near((.5 - 1.0 / 6) * f));
  CHECK(a[1] == near((-.5 - 1.0 / 6) * f));
  CHECK(a[2] == near(-1.0 / 6 * f));  // the lone rollout is moved like the others
  CHECK(3 * a[0] + a[1] + 2 * a[2] == near(0).margin(1e-14));
  const std::vector<double> nemo =
      token_whitened({.ddof = 0, .epsilon = 1e-8, .place = epsilon_place::variance_floor})(v, g, tokens);
  CHECK(nemo[0] == near((.5 - 1.0 / 6) / std::sqrt(5.0 / 36)));
  normalizer keeps = token_whitened();
  keeps.lone = lone_rollout::reward;
  CHECK(keeps(v, g, tokens)[2] > 1);
}

TEST_CASE("normalizer: equal rewards give exact zeros in every scope", "[advantage]") {
  for (double r : {0.1, 1.0 / 3, 1e9 + 0.1})
    for (moment_scope spread : {moment_scope::none, moment_scope::group, moment_scope::leave_one_out,
                                moment_scope::batch, moment_scope::tokens})
      for (moment_scope base : {moment_scope::group, moment_scope::leave_one_out, moment_scope::batch}) {
        const normalizer a{.baseline = base, .spread = spread, .constant = zero_variance::unscaled};
        const std::vector<verdict> v(7, verdict{r});
        CHECK(a(v, groups_with({3, 4}), std::vector<std::size_t>(7, 3)) == std::vector<double>(7, 0.0));
      }
}

TEST_CASE("normalizer: bad input is named", "[advantage]") {
  const std::vector<verdict> v = verdicts_of({0, 1});
  const groups g = groups_with({2});
  CHECK_THROWS_WITH(token_whitened()(v, g), Catch::Contains("needs the number of tokens"));
  CHECK_THROWS_WITH(token_whitened()(v, g, std::vector<std::size_t>{1}), "normalizer: 1 token counts for 2 verdicts");
  CHECK_THROWS_WITH(normalizer{.baseline = moment_scope::tokens}(v, g), Catch::Contains("no baseline over tokens"));
  CHECK_THROWS_WITH(normalizer{.deviation = {.ddof = 2}}(v, g), "normalizer: ddof is 2, expected 0 or 1");
  CHECK_THROWS_WITH(normalizer{.deviation = {.epsilon = -1}}(v, g), "normalizer: epsilon is -1");
  CHECK_THROWS_WITH(batch_normalized()(verdicts_of({0, not_a_number}), g), "advantages: reward 1 is nan");
  CHECK_THROWS_WITH(batch_normalized()(v, groups_with({3})), "advantages: groups of 3 rollouts for 2 verdicts");
  // Rewards whose squares or differences overflow are errors, not NaN.
  CHECK_THROWS_AS(one_group(group_normalized{}, {1e200, -1e200}), std::invalid_argument);
  CHECK_THROWS_WITH(one_group(centred{}, {1.7e308, -1.7e308}), "advantages: the rewards of group 0 overflow");
  CHECK_THROWS_AS(one_group(batch_normalized(), {1e200, -1e200}), std::invalid_argument);
}

TEST_CASE("whiten equals its formula and weights count observations", "[advantage]") {
  const deviation d{.ddof = 1, .epsilon = 0.25, .place = epsilon_place::beside_variance};
  std::vector<double> x{1, not_a_number, 4, 2, 2};
  const std::vector<std::uint8_t> mask{1, 0, 1, 1, 1};
  whiten(std::span<double>(x), std::span<const std::uint8_t>(mask), d);
  const double mu = 2.25, f = 1 / std::sqrt(variance({1, 4, 2, 2}) + 0.25);
  CHECK(x[0] == near((1 - mu) * f));
  CHECK(x[1] == 0);
  CHECK(x[2] == near((4 - mu) * f));
  // A weight of two is the value twice.
  std::vector<double> once{1, 4, 2}, twice{1, 4, 2, 2};
  const std::vector<int> weights{1, 1, 2}, ones(4, 1);
  whiten(std::span<double>(once), std::span<const int>(weights));
  whiten(std::span<double>(twice), std::span<const int>(ones));
  for (std::size_t i = 0; i < 3; ++i) CHECK(once[i] == near(twice[i]).epsilon(1e-14));

  for (std::size_t n : {1u, 5u, 1000u}) {  // equal, single, none
    std::vector<double> same(n, 0.1);
    whiten(std::span<double>(same), std::span<const double>(std::vector<double>(n, 1.0)));
    CHECK(same == std::vector<double>(n, 0.0));
  }
  std::vector<double> masked{3, 4};
  whiten(std::span<double>(masked), std::span<const std::uint8_t>(std::vector<std::uint8_t>{0, 1}));
  CHECK(masked == std::vector<double>{0, 0});
  // A shift of 1e9 costs no more than its own rounding.
  std::vector<double> here{1, 2, 4, 8, 16}, far;
  for (double v : here) far.push_back(v + 1e9);
  const std::vector<int> five(5, 1);
  whiten(std::span<double>(here), std::span<const int>(five));
  whiten(std::span<double>(far), std::span<const int>(five));
  for (std::size_t i = 0; i < 5; ++i) CHECK(far[i] == near(here[i]).epsilon(1e-12));

  std::vector<double> bad{1, infinity, 3};
  const std::vector<double> before = bad;
  CHECK_THROWS_WITH(whiten(std::span<double>(bad), std::span<const int>(std::vector<int>{1, 1, 1})),
                    "whiten: value 1 is inf");
  CHECK_THROWS_WITH(whiten(std::span<double>(bad), std::span<const int>(std::vector<int>{1, 0, -1})),
                    "whiten: weight 2 is -1");
  CHECK_THROWS_WITH(whiten(std::span<double>(bad), std::span<const int>(std::vector<int>{1, 1})),
                    "whiten: 3 values, 2 weights");
  CHECK(bad == before);
  std::vector<double> huge{1e200, -1e200};
  CHECK_THROWS_AS(whiten(std::span<double>(huge), std::span<const int>(std::vector<int>{1, 1})), std::invalid_argument);
  CHECK(huge[0] == 1e200);
}
