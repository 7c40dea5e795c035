/// Random shapes and values, NaN, infinities and broken arrays among them: every estimator returns finite numbers of
/// the right count, or throws std::invalid_argument that names something. Never a crash, never a silent NaN.

#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include <rlvr/advantage/beta_normalized.hpp>
#include <rlvr/advantage/by_outcome.hpp>
#include <rlvr/advantage/centred.hpp>
#include <rlvr/advantage/component_normalized.hpp>
#include <rlvr/advantage/entropy_shaped.hpp>
#include <rlvr/advantage/gae.hpp>
#include <rlvr/advantage/greedy_baseline.hpp>
#include <rlvr/advantage/group_normalized.hpp>
#include <rlvr/advantage/length_weighted.hpp>
#include <rlvr/advantage/mean_normalized.hpp>
#include <rlvr/advantage/normalizer.hpp>
#include <rlvr/advantage/pass_at_k_normalized.hpp>
#include <rlvr/advantage/rank_based.hpp>
#include <rlvr/advantage/risk_advantages.hpp>
#include <rlvr/advantage/signal_scaled.hpp>
#include <rlvr/advantage/token_rewards.hpp>
#include <rlvr/advantage/top_gap.hpp>
#include <rlvr/advantage/tracked_baseline.hpp>
#include <rlvr/advantage/virtual_reward.hpp>
#include <rlvr/advantage/whitening.hpp>

#include "advantage_worlds.hpp"
#include "catch.hpp"

using namespace rlvr;
using namespace advantage_worlds;

namespace {

/// A number that is hard to digest with chance `hostile`, otherwise one in [0, 1], often 0 or 1.
double number(random_key key, std::uint64_t at, double hostile) {
  const double odd[] = {not_a_number, infinity, -infinity, 1e308, -1e308, 1e155, 5e-324,
                        -5e-324,      1e-300,   -0.0,      -1,    2,      1e16,  1 + 0x1p-52};
  if (key.uniform(at, 1) < hostile) return odd[key.below(std::size(odd), at)];
  const double u = key.uniform(at, 2);
  return u < 0.3 ? 0 : u < 0.6 ? 1 : u;
}

struct hostile_world {
  std::vector<verdict> verdicts, second, greedy;
  groups g, bundles;
  std::vector<std::size_t> counts, offsets{0};
  std::vector<std::uint8_t> mask;
  std::vector<double> rewards, values, entropies;
  std::vector<std::uint32_t> prompts;
  bool finite = true;  // all numbers that count

  explicit hostile_world(std::uint64_t seed) {
    const random_key key = random_key(seed).fold(13);
    const double hostile = seed % 4 == 0 ? 0.2 : seed % 4 == 1 ? 0.02 : 0;
    const std::size_t n_groups = key.below(6, 1);
    for (std::size_t k = 0; k < n_groups; ++k) {
      // Now and then an empty group.
      const std::size_t size = seed % 7 == 0 && key.below(5, 50 + k) == 0 ? 0 : 1 + key.below(6, 100 + k);
      for (std::size_t i = 0; i < size; ++i) {
        const std::uint64_t at = 1000 * (k + 1) + i;
        verdicts.push_back({number(key, at, hostile), key.uniform(at, 3) < 0.8});
        second.push_back({number(key.fold(1), at, hostile), key.uniform(at, 4) < 0.8});
        counts.push_back(key.below(5, at));
        prompts.push_back(static_cast<std::uint32_t>(k));
        offsets.push_back(offsets.back() + key.below(4, 7 * at));
      }
      g.offsets.push_back(verdicts.size());
      greedy.push_back({number(key.fold(2), k, hostile), key.uniform(k, 5) < 0.8});
    }
    for (std::size_t t = 0; t < offsets.back(); ++t) {
      mask.push_back(key.uniform(t, 6) < 0.7);
      rewards.push_back(number(key.fold(3), t, hostile / 4));
      values.push_back(number(key.fold(4), t, hostile / 4));
      entropies.push_back(number(key.fold(5), t, hostile / 4));
    }
    if (n_groups > 2) bundles.offsets.push_back(2);
    if (n_groups > 0) bundles.offsets.push_back(n_groups);
    if (seed % 11 == 0) g.offsets.back() += key.below(3, 2);  // may go past the verdicts
    if (seed % 13 == 0 && !offsets.empty()) offsets.back() += key.below(2, 3);
    if (seed % 17 == 0 && !mask.empty()) mask.pop_back();
    if (seed % 19 == 0) g.offsets.insert(g.offsets.begin(), 1);
    if (seed % 23 == 0 && !counts.empty()) counts.pop_back();
    if (seed % 29 == 0) offsets.clear();
    if (seed % 31 == 0) g.offsets.clear();
    if (seed % 37 == 0) bundles.offsets.clear();
    if (seed % 41 == 0 && !g.offsets.empty()) g.offsets.back() = std::numeric_limits<std::size_t>::max();
  }
  token_layout layout() const { return {offsets, mask}; }
  std::size_t tokens() const { return offsets.empty() ? 0 : offsets.back(); }  ///< that the layout has
};

struct tally {
  std::size_t returned = 0, refused = 0;
};

/// f() returns `size` finite numbers or throws std::invalid_argument with a message.
template <class F>
void digest(tally& t, const char* who, std::size_t size, F f) {
  INFO(who);
  try {
    const std::vector<double> out = f();
    ++t.returned;
    bool fine = out.size() == size;
    for (double a : out) fine = fine && std::isfinite(a);
    if (!fine) CHECK(out == std::vector<double>{});
  } catch (const std::invalid_argument& e) {
    ++t.refused;
    if (std::string(e.what()).find(':') == std::string::npos) CHECK(std::string(e.what()) == "who: what");
  }
}

}  // namespace

TEST_CASE("advantages: hostile input gives finite numbers or an error", "[advantage][fuzz]") {
  tally t;
  for (std::uint64_t seed = 0; seed < 3000; ++seed) {
    const hostile_world w(seed);
    INFO("seed " << seed);
    const std::size_t B = w.verdicts.size();
    const auto rollouts = [&](const char* who, const auto& a) {
      digest(t, who, B, [&] { return a(w.verdicts, w.g); });
    };
    const auto counted = [&](const char* who, const auto& a) {
      digest(t, who, B, [&] { return a(w.verdicts, w.g, w.counts); });
    };
    rollouts("centred", centred{});
    rollouts("leave one out", centred{.against = baseline::leave_one_out, .lone = lone_rollout::reward});
    rollouts("group_normalized", group_normalized{.epsilon = seed % 2 ? 1e-6 : 0});
    rollouts("leave_one_out_normalized", leave_one_out_normalized(seed % 2 ? 1e-6 : 0));
    rollouts("batch_normalized", batch_normalized(seed % 2 ? deviation_of::rewards : deviation_of::centred));
    rollouts("raw over group", normalizer{.baseline = moment_scope::none, .deviation = {.epsilon = 0}});
    counted("token_whitened", token_whitened());
    counted("length_weighted", length_weighted{});
    rollouts("signal_scaled",
             signal_scaled{.counted = seed % 2 ? signal_kind::nonzero_reward : signal_kind::informative_group});
    rollouts("mean_normalized", mean_normalized{.epsilon = seed % 2 ? 1e-6 : 0});
    rollouts("top_gap", top_gap{});
    rollouts("pass_at_k_normalized", pass_at_k_normalized{.k = 1 + seed % 4});
    rollouts("beta_normalized", beta_normalized{});
    rollouts("virtual_reward", virtual_reward{});
    rollouts("rank_based", rank_based{.zero = rank_zero::best});
    rollouts("by_outcome", by_outcome<normalizer, constant_advantage, virtual_reward>{});
    rollouts("sign_weighted", sign_weighted<>{.positive = 0.1, .negative = 3});
    rollouts("correctness_relative", correctness_relative{});
    const std::vector<std::span<const verdict>> parts{w.verdicts, w.second};
    digest(t, "component_normalized", B, [&] { return component_normalized<>{}(parts, w.g); });
    digest(t, "component_normalized, tokens", B, [&] { return component_normalized<>{}(parts, w.g, w.counts); });
    digest(t, "greedy_baseline", B, [&] { return greedy_baseline(w.verdicts, w.g, w.greedy); });
    success_tracker tracker(5);
    digest(t, "tracked_advantages", B, [&] { return tracked_advantages(w.verdicts, w.prompts, tracker); });
    for (std::size_t i = 0; i < B; ++i)
      digest(t, "success_tracker", 1, [&] {
        tracker.observe(w.prompts[i], w.verdicts[i], 0.01);
        return std::vector<double>{tracker.value(w.prompts[i])};
      });
    for (const bundle_credit credit : {bundle_credit::by_excess, bundle_credit::by_deviation})
      digest(t, "risk_advantages", B,
             [&] { return risk_advantages(w.verdicts, w.g, w.bundles, {}, {.credit = credit}).advantages; });

    const std::size_t T = w.rewards.size();
    digest(t, "token_rewards", w.tokens(), [&] { return token_rewards(w.verdicts, w.layout(), w.values, 0.1); });
    digest(t, "whitened_returns", T, [&] { return whitened_returns(w.rewards, w.layout(), 0.9); });
    digest(t, "returns_above", T,
           [&] { return returns_above(w.rewards, std::vector<double>(w.verdicts.size(), 0.5), w.layout()); });
    digest(t, "gae", T, [&] { return gae(w.rewards, w.values, w.layout(), {.gamma = 0.9, .lambda = 0.9}).returns; });
    digest(t, "entropy_shaped", T, [&] { return entropy_shaped<>{}(w.verdicts, w.g, w.entropies, w.layout()); });
  }
  // Both sides of the promise were tried.
  CHECK(t.returned > 30000);
  CHECK(t.refused > 10000);
}

TEST_CASE("advantages: hostile options and states give finite numbers or an error", "[advantage][fuzz]") {
  tally t;
  for (std::uint64_t seed = 0; seed < 3000; ++seed) {
    const hostile_world w(seed);
    INFO("seed " << seed);
    const random_key key = random_key(seed).fold(14);
    std::uint64_t draws = 0;
    // Mostly out of the ordinary: two of three are.
    const auto option = [&] { return number(key, draws++, 0.65); };
    const auto choice = [&](std::size_t n) { return key.fold(9).below(n, draws++); };
    const auto any_deviation = [&] {
      return deviation{.ddof = choice(3), .epsilon = option(), .place = static_cast<epsilon_place>(choice(3))};
    };
    const auto scope = [&] { return static_cast<moment_scope>(choice(5)); };
    const std::size_t B = w.verdicts.size(), T = w.rewards.size();
    const auto rollouts = [&](const char* who, const auto& a) {
      digest(t, who, B, [&] { return a(w.verdicts, w.g); });
    };
    const auto lone = static_cast<lone_rollout>(choice(2));

    rollouts("centred", centred{.against = static_cast<baseline>(choice(2)), .lone = lone});
    const group_normalized grouped{.ddof = choice(3), .epsilon = option(), .lone = lone};
    rollouts("group_normalized", grouped);
    const normalizer any{.baseline = scope(),
                         .spread = scope(),
                         .of = static_cast<deviation_of>(choice(2)),
                         .deviation = any_deviation(),
                         .constant = static_cast<zero_variance>(choice(2)),
                         .lone = lone};
    rollouts("normalizer", any);
    digest(t, "normalizer, tokens", B, [&] { return any(w.verdicts, w.g, w.counts); });
    digest(t, "length_weighted", B, [&] { return length_weighted{lone}(w.verdicts, w.g, w.counts); });
    rollouts("signal_scaled", signal_scaled{.divisor = option(), .lone = lone});
    rollouts("mean_normalized", mean_normalized{.epsilon = option()});
    rollouts("pass_at_k_normalized", pass_at_k_normalized{.k = choice(4), .correct_above = option()});
    rollouts("virtual_reward", virtual_reward{.reward = option(), .deviation = any_deviation()});
    rollouts("rank_based", rank_based{.weight = option()});
    rollouts("constant_advantage", constant_advantage{option()});
    rollouts("by_outcome", by_outcome<>{.correct_above = option()});
    rollouts("sign_weighted", sign_weighted<>{.positive = option(), .negative = option()});
    rollouts("correctness_relative", correctness_relative{option()});
    const std::vector<std::span<const verdict>> parts{w.verdicts, w.second};
    std::vector<double> weights{option(), option()};
    if (choice(5) == 0) weights.pop_back();
    const component_normalized<> components{.weights = weights, .over_batch = any_deviation()};
    digest(t, "component_normalized", B, [&] { return components(parts, w.g); });
    digest(t, "component_normalized, tokens", B, [&] { return components(parts, w.g, w.counts); });
    const double levels[2] = {option(), option()};
    const risk_options risk{.low = levels[0],
                            .high = levels[1],
                            .tail_weight = option(),
                            .baseline = static_cast<risk_baseline>(choice(2)),
                            .credit = static_cast<bundle_credit>(choice(4)),
                            .scaled = static_cast<scaling>(choice(2)),
                            .epsilon = option()};
    std::vector<double> tracked{option(), option()};
    if (choice(3) == 0) tracked.resize(choice(2));
    digest(t, "risk_advantages", B,
           [&] { return risk_advantages(w.verdicts, w.g, w.bundles, tracked, risk).advantages; });
    const risk_advantages_result none;
    digest(t, "risk_advantages, totals", 0, [&] {
      const std::vector<double> totals = risk_advantages(w.verdicts, w.g, w.bundles, tracked).totals;
      for (double x : totals)
        if (!std::isfinite(x)) return totals;
      return none.totals;
    });

    // Quantiles whose values come from somewhere else.
    std::vector<double> scores;
    for (std::size_t n = choice(5); n > 0; --n) scores.push_back(number(key.fold(1), draws++, 0.1));
    tracked_quantiles quantiles{.levels = {}, .rate = choice(2) ? 0.1 : option()};
    for (std::size_t n = choice(4); n > 0; --n) quantiles.levels.push_back(choice(4) ? key.uniform(draws++) : option());
    for (std::size_t n = choice(3) ? 0 : choice(5); n > 0; --n) quantiles.values.push_back(option());
    for (int batch = 0; batch < 2; ++batch)
      digest(t, "tracked_quantiles", quantiles.levels.size(), [&] {
        quantiles.observe(scores);
        return scores.empty() ? std::vector<double>(quantiles.levels.size()) : quantiles.values;
      });

    const success_tracker_options memory{
        .drift_half_life = option(), .least_memory = option(), .most_memory = option()};
    digest(t, "success_tracker", 2, [&] {
      success_tracker tracker(2, choice(2) ? memory : success_tracker_options{});
      if (choice(2)) tracker.start(choice(3), choice(4), choice(4));
      tracker.observe(choice(3), {option(), choice(4) > 0}, option());
      return std::vector<double>{tracker.value(0), tracker.value(choice(3))};
    });

    std::vector<double> values = w.values, importance = w.entropies;
    const deviation spread = any_deviation();
    digest(t, "whiten", T, [&] {
      if (choice(9) == 0) values.push_back(0);
      whiten(std::span<double>(values), std::span<const double>(importance), spread);
      return values;
    });
    digest(t, "token_rewards", w.tokens(), [&] { return token_rewards(w.verdicts, w.layout(), w.values, option()); });
    const auto masked = static_cast<masked_tokens>(choice(2));
    digest(t, "discounted_returns", T, [&] { return discounted_returns(w.rewards, w.layout(), option(), masked); });
    digest(t, "whitened_returns", T, [&] { return whitened_returns(w.rewards, w.layout(), 1, masked, spread); });
    std::vector<double> baselines(B);
    for (double& b : baselines) b = number(key.fold(2), draws++, 0.2);
    std::vector<double> finals(T);
    for (double& r : finals) r = number(key.fold(6), draws++, 0.1);
    digest(t, "returns_above", T, [&] { return returns_above(finals, baselines, w.layout()); });
    digest(t, "gae", T, [&] {
      const gae_options o{.gamma = option(), .lambda = option(), .length_adaptive = option()};
      return gae(w.rewards, w.values, w.layout(), o).advantages;
    });
    digest(t, "entropy_shaped", T, [&] {
      return entropy_shaped<>{.scale = option(), .correct_above = option()}(w.verdicts, w.g, w.entropies, w.layout());
    });
    digest(t, "scored_mask", w.tokens(), [&] {
      const std::vector<std::uint8_t> mask = scored_mask(w.verdicts, w.layout());
      return std::vector<double>(mask.begin(), mask.end());
    });
  }
  CHECK(t.returned > 15000);
  CHECK(t.refused > 15000);
}

TEST_CASE("advantages: what overflows is named by its index", "[advantage][fuzz]") {
  const double large = 1.7e308;
  const std::vector<std::size_t> offsets{0, 2, 4};
  const std::vector<double> plain{0, 0, 0, 0}, summed{0, 0, large, large}, apart{-large, large};
  CHECK_THROWS_WITH(discounted_returns(summed, {offsets}), "discounted_returns: return 2 overflows: it is inf");
  CHECK_THROWS_WITH(returns_above(std::vector<double>{0, large, 0, 0}, apart, {offsets}),
                    "returns_above: advantage 0 overflows: it is inf");
  CHECK_THROWS_WITH(token_rewards(verdicts_of({0, large}), {offsets}, std::vector<double>{0, 0, 0, large}, -1),
                    "token_rewards: reward 3 overflows: it is inf");
  CHECK_THROWS_WITH(gae(summed, plain, {offsets}), "gae: advantage 2 overflows: it is inf");
  const groups one = groups_with({2}), two = groups_with({2, 2});
  CHECK_THROWS_WITH((sign_weighted<centred>{.negative = large})(verdicts_of({1, 1, 9, 0}), two),
                    "sign_weighted: advantage 3 overflows: it is -inf");
  CHECK_THROWS_WITH((signal_scaled{.divisor = 1e-300})(verdicts_of({0, 0, 1e9, 0}), two),
                    "signal_scaled: advantage 2 overflows: it is inf");
  CHECK_THROWS_WITH(
      entropy_shaped<>{.scale = large}(verdicts_of({1, 1}), one, std::vector<double>{0, 0, 9, 0}, {offsets}),
      "entropy_shaped: advantage 2 overflows: it is inf");
  const std::vector<verdict> v = verdicts_of({0, large, 0, large});
  CHECK_THROWS_WITH(risk_advantages(v, two, one), "risk_advantages: total 1 overflows: it is inf");
  CHECK_THROWS_WITH(risk_advantages(v, two, one, std::vector<double>{0, not_a_number}),
                    "risk_advantages: tracked quantile 1 is nan");

  tracked_quantiles q{.levels = {0, 1}, .values = {0, large}};
  q.rate = large;
  CHECK_THROWS_WITH(q.observe(std::vector<double>{large}), "tracked_quantiles: quantile 1 is inf, not a finite number");
  CHECK(q.values == std::vector<double>{0, large});
  q.values.pop_back();
  CHECK_THROWS_WITH(q.observe(std::vector<double>{1}), "tracked_quantiles: 1 values for 2 levels");

  success_tracker tracker(2);
  tracker.beta.pop_back();
  const char* sizes = "success_tracker: 2 alpha for 1 beta";
  CHECK_THROWS_WITH(tracker.value(1), sizes);
  CHECK_THROWS_WITH(tracker.start(1, 1, 1), sizes);
  CHECK_THROWS_WITH(tracker.observe(0, {1, true}), sizes);
  CHECK(tracker.alpha == std::vector<double>{0.5, 0.5});

  // Too few verdicts for the groups: no reward behind the last one is looked at.
  CHECK_THROWS_WITH(beta_normalized{}(verdicts_of({1}), one), "advantages: groups of 2 rollouts for 1 verdicts");
  const std::vector<verdict> few = verdicts_of({1});
  const std::vector<std::span<const verdict>> parts{few};
  CHECK_THROWS_WITH(component_normalized<>{}(parts, one), "advantages: groups of 2 rollouts for 1 verdicts");
}

TEST_CASE("advantages: a reward that is not finite is named by its index", "[advantage][fuzz]") {
  for (double bad : {not_a_number, infinity, -infinity})
    for (std::size_t at : {0u, 5u, 11u}) {
      std::vector<verdict> v = verdicts_of({1, 0, 1, 0, 0, 1, 1, 1, 0, 0, 1, 0});
      v[at].reward = bad;
      const groups g = groups_with({4, 1, 3, 4});
      const std::vector<std::size_t> counts(12, 2);
      std::vector<std::size_t> offsets;
      for (std::size_t i = 0; i <= 12; ++i) offsets.push_back(2 * i);
      const std::string name = "reward " + std::to_string(at) + " is ";
      CHECK_THROWS_WITH(centred{}(v, g), Catch::Contains(name));
      CHECK_THROWS_WITH(group_normalized{}(v, g), Catch::Contains(name));
      CHECK_THROWS_WITH(leave_one_out_normalized()(v, g), Catch::Contains(name));
      CHECK_THROWS_WITH(batch_normalized()(v, g), Catch::Contains(name));
      CHECK_THROWS_WITH(token_whitened()(v, g, counts), Catch::Contains(name));
      CHECK_THROWS_WITH(length_weighted{}(v, g, counts), Catch::Contains(name));
      CHECK_THROWS_WITH(signal_scaled{}(v, g), Catch::Contains(name));
      CHECK_THROWS_WITH(mean_normalized{}(v, g), Catch::Contains(name));
      CHECK_THROWS_WITH(top_gap{}(v, g), Catch::Contains(name));
      CHECK_THROWS_WITH(pass_at_k_normalized{}(v, g), Catch::Contains(name));
      CHECK_THROWS_WITH(beta_normalized{}(v, g), Catch::Contains(name));
      CHECK_THROWS_WITH(virtual_reward{}(v, g), Catch::Contains(name));
      CHECK_THROWS_WITH(rank_based{}(v, g), Catch::Contains(name));
      CHECK_THROWS_WITH(by_outcome<>{}(v, g), Catch::Contains(name));
      CHECK_THROWS_WITH(sign_weighted<>{}(v, g), Catch::Contains(name));
      CHECK_THROWS_WITH(correctness_relative{}(v, g), Catch::Contains(name));
      CHECK_THROWS_WITH(greedy_baseline(v, g, verdicts_of({0, 0, 0, 0})), Catch::Contains(name));
      CHECK_THROWS_WITH(risk_advantages(v, g, groups_with({4})), Catch::Contains(name));
      CHECK_THROWS_WITH(tracked_advantages(v, std::vector<std::uint32_t>(12, 0), success_tracker(1)),
                        Catch::Contains(name));
      CHECK_THROWS_WITH(token_rewards(v, {offsets}), Catch::Contains(name));
      CHECK_THROWS_WITH(entropy_shaped<>{}(v, g, std::vector<double>(24, 1.0), {offsets}), Catch::Contains(name));
    }
}
