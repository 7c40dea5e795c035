/// Advantages per token: returns, whitening, GAE, entropy shaping; and bundles of prompts.

#include <algorithm>
#include <cmath>
#include <vector>

#include <rlvr/advantage/entropy_shaped.hpp>
#include <rlvr/advantage/gae.hpp>
#include <rlvr/advantage/greedy_baseline.hpp>
#include <rlvr/advantage/risk_advantages.hpp>
#include <rlvr/advantage/token_rewards.hpp>

#include "advantage_worlds.hpp"
#include "catch.hpp"

using namespace rlvr;
using namespace advantage_worlds;

namespace {

/// Ragged tokens with a mask, rewards and values; masked entries hold NaN.
struct token_world {
  std::vector<std::size_t> offsets{0};
  std::vector<std::uint8_t> mask;
  std::vector<double> rewards, values, entropies;

  explicit token_world(std::uint64_t seed, std::size_t rollouts = 9) {
    const random_key key = random_key(seed).fold(5);
    for (std::size_t i = 0; i < rollouts; ++i) offsets.push_back(offsets.back() + key.below(7, i));
    for (std::size_t t = 0; t < offsets.back(); ++t) {
      mask.push_back(key.uniform(t, 1) < 0.7);
      rewards.push_back(mask[t] ? key.uniform(t, 2) - 0.5 : not_a_number);
      values.push_back(mask[t] ? key.uniform(t, 3) : not_a_number);
      entropies.push_back(mask[t] ? 3 * key.uniform(t, 4) : not_a_number);
    }
  }
  token_layout layout() const { return {offsets, mask}; }

  /// The same with masked tokens cut out.
  struct dense {
    std::vector<std::size_t> offsets{0}, from;
    std::vector<double> rewards, values;
  };
  dense without_masked() const {
    dense out;
    for (std::size_t i = 0; i + 1 < offsets.size(); ++i) {
      for (std::size_t t = offsets[i]; t < offsets[i + 1]; ++t)
        if (mask[t]) {
          out.from.push_back(t);
          out.rewards.push_back(rewards[t]);
          out.values.push_back(values[t]);
        }
      out.offsets.push_back(out.from.size());
    }
    return out;
  }
};

}  // namespace

TEST_CASE("token_rewards: the verdict at the last active token, penalties at all", "[advantage]") {
  const std::vector<std::size_t> offsets{0, 3, 3, 5, 7};
  const std::vector<std::uint8_t> mask{1, 1, 0, 1, 1, 0, 0};
  const std::vector<verdict> v{{2}, {5}, {not_a_number, false}, {3}};
  const std::vector<double> penalties{.1, .2, not_a_number, .3, .4, .5, .6};
  CHECK(token_rewards(v, {offsets, mask}) == std::vector<double>{0, 2, 0, 0, 0, 0, 0});
  const std::vector<double> r = token_rewards(v, {offsets, mask}, penalties, 10);
  CHECK(r[0] == near(-1));
  CHECK(r[1] == near(0).margin(1e-15));
  for (std::size_t t = 2; t < 7; ++t) CHECK(r[t] == 0);
  CHECK(token_rewards(v, {offsets}) == std::vector<double>{0, 0, 2, 0, 0, 0, 3});
  CHECK(scored_mask(v, {offsets, mask}) == std::vector<std::uint8_t>{1, 1, 0, 0, 0, 0, 0});

  CHECK_THROWS_WITH(token_rewards(verdicts_of({1}), {offsets}), "token_rewards: 1 verdicts for 4 rollouts");
  CHECK_THROWS_WITH(token_rewards(verdicts_of({1, 2, 3, infinity}), {offsets}), "token_rewards: reward 3 is inf");
  CHECK_THROWS_WITH(token_rewards(v, {offsets}, penalties, 1), "token_rewards: penalty 2 is nan");
  CHECK_THROWS_WITH(token_rewards(v, {offsets}, std::vector<double>{1}, 1), "token_rewards: 1 penalties for 7 tokens");
  const std::vector<std::size_t> falling{0, 3, 2};
  CHECK_THROWS_WITH(token_rewards(v, {falling}), "token_rewards: offsets[2] = 2 is below offsets[1] = 3");
  CHECK_THROWS_WITH(token_rewards(v, {offsets, std::span(mask).first(3)}), "token_rewards: a mask of 3 for 7 tokens");
  CHECK_THROWS_WITH(token_rewards(v, {}), "token_rewards: offsets is empty");
}

TEST_CASE("discounted_returns pass over masked tokens, or end there", "[advantage]") {
  const std::vector<std::size_t> offsets{0, 5};
  const std::vector<std::uint8_t> mask{1, 1, 0, 1, 1};
  const std::vector<double> rewards{1, 2, not_a_number, 4, 8};
  CHECK(discounted_returns(rewards, {offsets, mask}, 0.5) == std::vector<double>{4, 6, 0, 8, 8});
  CHECK(discounted_returns(rewards, {offsets, mask}, 0.5, masked_tokens::end_return) ==
        std::vector<double>{2, 2, 0, 8, 8});
  CHECK(discounted_returns(rewards, {offsets, mask}) == std::vector<double>{15, 14, 0, 12, 8});
  for (std::uint64_t seed = 0; seed < 10; ++seed) {  // cutting masked tokens out changes nothing; the sum by hand
    const token_world w(seed);
    const auto d = w.without_masked();
    const std::vector<double> a = discounted_returns(w.rewards, w.layout(), 0.9);
    const std::vector<double> b = discounted_returns(d.rewards, {d.offsets}, 0.9);
    for (std::size_t t = 0; t < d.from.size(); ++t) CHECK(a[d.from[t]] == b[t]);
    for (std::size_t i = 0; i + 1 < d.offsets.size(); ++i)
      for (std::size_t t = d.offsets[i]; t < d.offsets[i + 1]; ++t) {
        double sum = 0;
        for (std::size_t s = t; s < d.offsets[i + 1]; ++s) sum += std::pow(0.9, double(s - t)) * d.rewards[s];
        CHECK(b[t] == near(sum).margin(1e-13));
      }
  }
  CHECK_THROWS_WITH(discounted_returns(rewards, {offsets}), "discounted_returns: reward 2 is nan");
  CHECK_THROWS_WITH(discounted_returns(rewards, {offsets, mask}, 1.5), "discounted_returns: gamma is 1.5");
  CHECK_THROWS_WITH(discounted_returns(std::vector<double>{1}, {offsets}),
                    "discounted_returns: 1 rewards for 5 tokens");
}

TEST_CASE("whitened_returns are REINFORCE++: mean 0 and variance 1 over tokens", "[advantage]") {
  for (std::uint64_t seed = 0; seed < 10; ++seed) {
    const token_world w(seed);
    const std::vector<double> g = discounted_returns(w.rewards, w.layout(), 0.9);
    const std::vector<double> a = whitened_returns(w.rewards, w.layout(), 0.9);
    std::vector<double> active;
    for (std::size_t t = 0; t < g.size(); ++t)
      if (w.mask[t]) active.push_back(g[t]);
    for (std::size_t t = 0; t < g.size(); ++t)
      CHECK(a[t] == near(w.mask[t] ? (g[t] - mean(active)) / std::sqrt(variance(active) + 1e-8) : 0).margin(1e-12));
    // Padding changes nothing.
    const auto d = w.without_masked();
    const std::vector<double> b = whitened_returns(d.rewards, {d.offsets}, 0.9);
    for (std::size_t t = 0; t < d.from.size(); ++t) CHECK(b[t] == near(a[d.from[t]]).margin(1e-12));
  }
  const std::vector<std::size_t> offsets{0, 1, 2, 3};
  CHECK(whitened_returns(std::vector<double>(3, .1), {offsets}) == std::vector<double>(3, 0.0));
  CHECK(whitened_returns({}, {std::span(offsets).first(1)}).empty());
}

TEST_CASE("returns_above is ReMax per token", "[advantage]") {
  const std::vector<std::size_t> offsets{0, 3, 4};
  const std::vector<std::uint8_t> mask{1, 0, 1, 1};
  const std::vector<double> rewards{-1, not_a_number, 3, 5}, baselines{1, 2};
  CHECK(returns_above(rewards, baselines, {offsets, mask}) == std::vector<double>{1, 0, 2, 3});
  CHECK_THROWS_WITH(returns_above(rewards, std::vector<double>{1}, {offsets, mask}),
                    "returns_above: 1 baselines for 2 rollouts");
  CHECK_THROWS_WITH(returns_above(rewards, std::vector<double>{1, not_a_number}, {offsets, mask}),
                    "returns_above: baseline 1 is nan");
}

TEST_CASE("gae equals the sum over k-step errors, and knows no masked token", "[advantage]") {
  for (std::uint64_t seed = 0; seed < 10; ++seed)
    for (const gae_options o : {gae_options{},
                                {.gamma = 0.9, .lambda = 0.8},
                                {.gamma = 0.7, .lambda = 0},
                                {.gamma = 0.95, .length_adaptive = 0.7}}) {
      const token_world w(seed);
      const auto d = w.without_masked();
      const auto got = gae(w.rewards, w.values, w.layout(), o);
      for (std::size_t i = 0; i + 1 < d.offsets.size(); ++i) {
        const std::size_t end = d.offsets[i + 1];
        double lambda = o.lambda;
        if (o.length_adaptive > 0) lambda = 1 - 1 / std::max(1.0, o.length_adaptive * double(end - d.offsets[i]));
        for (std::size_t t = d.offsets[i]; t < end; ++t) {
          double sum = 0;
          for (std::size_t s = t; s < end; ++s) {
            const double next = s + 1 < end ? d.values[s + 1] : 0;
            sum += std::pow(o.gamma * lambda, double(s - t)) * (d.rewards[s] + o.gamma * next - d.values[s]);
          }
          CHECK(got.advantages[d.from[t]] == near(sum).margin(1e-13));
          CHECK(got.returns[d.from[t]] == near(sum + d.values[t]).margin(1e-13));
        }
      }
      for (std::size_t t = 0; t < w.mask.size(); ++t)
        if (!w.mask[t]) CHECK((got.advantages[t] == 0 && got.returns[t] == 0));
      if (o.lambda == 1 && o.length_adaptive == 0) {  // Monte Carlo: the return itself
        const std::vector<double> returns = discounted_returns(w.rewards, w.layout(), o.gamma);
        for (std::size_t t = 0; t < returns.size(); ++t) CHECK(got.returns[t] == near(returns[t]).margin(1e-12));
      }
    }
  const std::vector<std::size_t> offsets{0, 2};
  const std::vector<double> r{0, 1}, v{.5, not_a_number};
  CHECK_THROWS_WITH(gae(r, v, {offsets}), "gae: value 1 is nan");
  CHECK_THROWS_WITH(gae(v, r, {offsets}), "gae: reward 1 is nan");
  CHECK_THROWS_WITH(gae(r, r, {offsets}, {.lambda = -1}), "gae: lambda is -1");
  CHECK_THROWS_WITH(gae(r, r, {offsets}, {.gamma = not_a_number}), "gae: gamma is nan");
  CHECK_THROWS_WITH(gae(r, std::vector<double>{1}, {offsets}), "gae: 1 values for 2 tokens");
  CHECK_THROWS_WITH(gae(std::vector<double>{1.7e308, 1.7e308}, std::vector<double>{0, 0}, {offsets}),
                    "gae: advantage 0 overflows: it is inf");
}

TEST_CASE("entropy_shaped: constant groups learn by entropy, others as usual", "[advantage]") {
  // Groups: all right; all wrong (one unscored between); mixed; lone.
  std::vector<verdict> v = verdicts_of({1, 1, 0, 9, 0, 1, 0, 1});
  v[3].scored = false;
  const groups g = groups_with({2, 3, 2, 1});
  const std::vector<std::size_t> offsets{0, 2, 4, 6, 8, 10, 12, 14, 16};
  const std::vector<double> h{1, 2, 3, 4, 5, 6, 7, 8, .5, .25, 1, 1, 1, 1, 1, 1};
  std::vector<std::uint8_t> mask(16, 1);
  mask[3] = 0;
  const std::vector<double> a = entropy_shaped<>{.scale = 0.5}(v, g, h, {offsets, mask});
  const double s = group_normalized{}(v, g)[5];
  const std::vector<double> expected{.5, 1, 1.5, 0, -.5, 0, 0, 0, 0, -.125, s, s, -s, -s, 0, 0};
  for (std::size_t t = 0; t < 16; ++t) CHECK(a[t] == near(expected[t]).margin(1e-15));

  std::vector<double> bad = h;
  bad[3] = not_a_number;  // masked
  CHECK_NOTHROW(entropy_shaped<>{}(v, g, bad, {offsets, mask}));
  bad[4] = -1;
  CHECK_THROWS_WITH(entropy_shaped<>{}(v, g, bad, {offsets, mask}), "entropy_shaped: entropy 4 is -1");
  CHECK_THROWS_WITH(entropy_shaped<>{}(v, g, std::vector<double>{1}, {offsets, mask}),
                    "entropy_shaped: 1 entropies for 16 tokens");
  CHECK_THROWS_WITH(entropy_shaped<>{.scale = -1}(v, g, h, {offsets, mask}), "entropy_shaped: scale is -1");
}

TEST_CASE("sorted_quantile and tracked_quantiles", "[advantage]") {
  const std::vector<double> x{0, 10, 20, 40};
  CHECK(sorted_quantile(x, 0) == 0);
  CHECK(sorted_quantile(x, 0.5) == 15);
  CHECK(sorted_quantile(x, 0.9) == near(34));
  CHECK(sorted_quantile(x, 1) == 40);
  CHECK_THROWS_AS(sorted_quantile({}, 0.5), std::invalid_argument);
  CHECK_THROWS_WITH(sorted_quantile(x, 1.5), "sorted_quantile: level is 1.5");

  tracked_quantiles q{.levels = {0.2, 0.8}};
  q.observe({});
  CHECK(q.values.empty());
  q.observe(std::vector<double>{40, 0, 10, 20});
  CHECK(q.values == std::vector<double>{sorted_quantile(x, 0.2), sorted_quantile(x, 0.8)});
  q.values = {10, 25};
  q.observe(x);  // below 10: one of four; below 25: three
  CHECK(q.values[0] == near(10 + 0.1 * (0.2 - 0.25)));
  CHECK(q.values[1] == near(25 + 0.1 * (0.8 - 0.75)));
  const std::vector<double> before = q.values;
  CHECK_THROWS_WITH(q.observe(std::vector<double>{1, infinity}), "tracked_quantiles: score 1 is inf");
  CHECK(q.values == before);
  // On a stream of uniform numbers they settle at the levels.
  tracked_quantiles u{.levels = {0.2, 0.8}, .rate = 0.05};
  for (std::uint64_t s = 0; s < 400; ++s) {
    std::vector<double> batch(50);
    for (std::size_t i = 0; i < batch.size(); ++i) batch[i] = random_key(9).uniform(s, std::uint32_t(i));
    u.observe(batch);
  }
  CHECK(u.values[0] == near(0.2).margin(0.05));
  CHECK(u.values[1] == near(0.8).margin(0.05));
}

TEST_CASE("risk_advantages: totals of a bundle, shared among its rollouts", "[advantage]") {
  // One bundle of two prompts with four rollouts each: totals 2, 1, 1, 0.
  std::vector<verdict> v = verdicts_of({1, 1, 0, 0, 1, 0, 1, 0});
  const groups g = groups_with({4, 4}), bundles = groups_with({2});
  const std::vector<double> q{0.5, 1.5};
  const risk_options plain{.credit = bundle_credit::uniform};
  const auto whole = [](double total) {
    const double middle = std::max(total - .5, 0.0) - std::max(total - 1.5, 0.0);
    return (1.5 * -std::max(.5 - total, 0.0) / (.2 + 1e-6) + middle / (.6 + 1e-6)) / 2.5;
  };
  auto r = risk_advantages(v, g, bundles, q, plain);
  CHECK(r.totals == std::vector<double>{2, 1, 1, 0});
  for (std::size_t i = 0; i < 8; ++i) CHECK(r.advantages[i] == near(whole(r.totals[i % 4])));
  CHECK(r.advantages[3] < 0);

  r = risk_advantages(v, g, bundles, q, {.baseline = risk_baseline::range, .credit = bundle_credit::uniform});
  CHECK(r.advantages[0] == near(0).margin(1e-15));  // at the top: nothing more to gain
  CHECK(r.advantages[3] == near((-1.5 * .5 / (.2 + 1e-6) - 1 / (.6 + 1e-6)) / 2.5));

  // In proportion to the excess over each prompt's mean of 1/2: total 2: (.5 + .5); total 1: .5 - .5 sums to 0.
  r = risk_advantages(v, g, bundles, q);
  CHECK(r.advantages[0] == near(whole(2) / 2));
  CHECK(r.advantages[1] == near(whole(1) / 2));
  v[0].reward = 4;  // mean 5/4, excess 11/4 and 1/2 of 13/4
  r = risk_advantages(v, g, bundles, q);
  CHECK(r.totals[0] == 5);
  CHECK(r.advantages[0] == near(whole(5) * 2.75 / 3.25));
  CHECK(r.advantages[4] == near(whole(5) * 0.5 / 3.25));
  r = risk_advantages(v, g, bundles, q, {.credit = bundle_credit::by_reward});
  CHECK(r.advantages[1] == near(.5 * whole(1)));
  CHECK(r.advantages[5] == near(1.5 * whole(1)));
  r = risk_advantages(v, g, bundles, q, {.credit = bundle_credit::by_deviation});
  CHECK(r.advantages[4] == near(whole(5) / (std::sqrt(variance({1, 0, 1, 0})) + 1e-6)));
  r = risk_advantages(v, g, bundles, q, {.credit = bundle_credit::uniform, .scaled = scaling::deviation});
  CHECK(r.advantages[0] == near(whole(5) / (std::sqrt(variance({5, 1, 1, 0})) + 1e-6)));

  // The bundle's own quantiles; unscored rollouts are passed over, those beyond the shortest prompt get 0.
  std::vector<verdict> holes = verdicts_of({9, 1, 0, 1, 0, 1});
  holes[0] = {not_a_number, false};
  r = risk_advantages(holes, groups_with({4, 2}), bundles, {}, plain);
  CHECK(r.totals == std::vector<double>{1, 1});  // 1 + 0, 0 + 1
  CHECK(r.advantages[0] == 0);
  CHECK(r.advantages[3] == 0);
  // A prompt with nothing scored leaves its bundle out.
  holes[4].scored = holes[5].scored = false;
  r = risk_advantages(holes, groups_with({4, 2}), bundles, {}, plain);
  CHECK(r.totals.empty());
  CHECK(r.advantages == std::vector<double>(6, 0.0));

  CHECK_THROWS_WITH(risk_advantages(v, g, groups_with({1}), q), "risk_advantages: bundles of 1 groups for 2");
  CHECK_THROWS_WITH(risk_advantages(v, g, groups_with({2, 0}), q),
                    "risk_advantages: bundle 1 is [2, 2), which is empty");
  CHECK_THROWS_WITH(risk_advantages(v, g, bundles, std::vector<double>{1}),
                    "risk_advantages: 1 tracked quantiles, expected 2");
  CHECK_THROWS_WITH(risk_advantages(v, g, bundles, {}, {.low = 0}), "risk_advantages: levels 0 and 0.8");
  v[6].reward = infinity;
  CHECK_THROWS_WITH(risk_advantages(v, g, bundles, q), "advantages: reward 6 is inf");
}
