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
#include <rlvr/advantage/top_gap.hpp>
#include <rlvr/advantage/tracked_baseline.hpp>
#include <rlvr/advantage/virtual_reward.hpp>

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
  }
  token_layout layout() const { return {offsets, mask}; }
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
    digest(t, "token_rewards", T, [&] { return token_rewards(w.verdicts, w.layout(), w.values, 0.1); });
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
