#pragma once
/// Published selectors by name, put together from trackers, utilities, draws and filters.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include <rlvr/core/error.hpp>
#include <rlvr/core/square_root.hpp>
#include <rlvr/select/beta_tracker.hpp>
#include <rlvr/select/draw.hpp>
#include <rlvr/select/filter.hpp>
#include <rlvr/select/gain_trackers.hpp>
#include <rlvr/select/pairing.hpp>
#include <rlvr/select/predicted_rates.hpp>
#include <rlvr/select/rate_utility.hpp>
#include <rlvr/select/reward_trackers.hpp>
#include <rlvr/select/selector.hpp>

namespace rlvr {

/// Prompts at random.
using uniform_selector = pool_selector<predicted_rates, near_target, draw_uniform>;
inline uniform_selector make_uniform(std::size_t pool) { return uniform_selector(predicted_rates(pool)); }

/// Thompson sampling over a utility of the pass rate: the posterior counts rollouts. Source: Thompson 1933; with a fade
/// below 1 discounted Thompson sampling (Raj and Kalyani 2017, arXiv 1707.09727).
template <class Rate = rate_variance>
using thompson_selector = pool_selector<beta_tracker<>, sampled<Rate>, draw_top, keep_mixed>;
template <class Rate = rate_variance>
thompson_selector<Rate> make_thompson(std::size_t pool, double fade = 1, Rate of = {}) {
  return thompson_selector<Rate>(beta_tracker<>(pool, {.keep = {fade}, .fade = fade}), {of});
}

/// VADE: Thompson over p (1 - p)^2 from a uniform prior; what is known fades to `keep` at a visit and by `fade` at every
/// other step. Source: arXiv 2511.18902, constants as its first figure implies them.
inline thompson_selector<rate_information> make_vade(std::size_t pool, double keep = 0.2, double fade = 0.999) {
  return thompson_selector<rate_information>(beta_tracker<>(pool, {.keep = {keep}, .fade = fade}));
}

/// MoPPS: Thompson towards a pass rate of 1/2; counts keep `keep` at a visit, a <- keep a + (1 - keep) prior + k.
/// Source: arXiv 2507.04632, top-k mode; keep 1 for MATH and .5 for countdown. (Its code sets both counts to 8 for
/// groups of one, by operator precedence; this does not.)
inline thompson_selector<rate_near> make_mopps(std::size_t pool, double keep = 1, rate_near target = {}) {
  return thompson_selector<rate_near>(beta_tracker<>(pool, {.keep = {keep}}), {target});
}
/// MoPPS, threshold mode: random prompts among those drawn inside the band, then those nearest to it.
inline thompson_selector<rate_band> make_mopps_threshold(std::size_t pool, double keep = 1, rate_band band = {}) {
  return thompson_selector<rate_band>(beta_tracker<>(pool, {.keep = {keep}}), {band});
}

/// (sqrt(v (1 - v)) + floor) / N^gamma: N the weight of the posterior, v its mean.
struct spo_weight {
  static constexpr std::string_view state_name = "spo_weight";
  double floor = 0.05;
  double gamma = 0;
  double operator()(const beta_belief& b, const pool_clock&) const {
    const double n = b.weight(), v = n > 0 ? b.rate() : 0.5;
    const double w = vector_sqrt(v * (1 - v));
    return (gamma == 0 ? w : w / std::pow(n, gamma)) + floor;
  }
};

/// SPO's KL-adaptive value tracker with prioritised sampling. Counts begin at Beta(1/2, 1/2) as its recipe does without
/// offline rollouts; spo_counts makes those of prompts that have some. The tracker's posterior mean is also SPO's
/// baseline. gamma 0 is the recipe's weight, gamma in (0, 1] the paper's. Source: SPO (arXiv 2509.13232) and its recipe.
using spo_selector = pool_selector<beta_tracker<keep_by_divergence>, spo_weight, draw_proportional>;
inline spo_selector make_spo(std::size_t pool, spo_weight weight = {}, keep_by_divergence keep = {}) {
  beta_tracker<keep_by_divergence> tracker(pool, {.prior_alpha = 0, .prior_beta = 0, .keep = keep});
  const std::vector<double> half(pool, 0.5);
  tracker.set_counts(half, half);
  return spo_selector(std::move(tracker), weight);
}

/// SPO's counts from S successes in N offline rollouts: alpha = N_init (S + 1/2) / (N + 1), N_init = 1 / (1 - low);
/// 1/2 and 1/2 for N = 0.
inline beta_belief spo_counts(double successes, double rollouts, double low = 0.875) {
  require(successes >= 0 && successes <= rollouts, "spo_counts: ", successes, " successes in ", rollouts, " rollouts");
  require(low >= 0 && low < 1, "spo_counts: low is ", low);
  if (rollouts == 0) return {0.5, 0.5};
  const double scale = 1 / (1 - low) / (rollouts + 1);
  return {scale * (successes + 0.5), scale * (rollouts - successes + 0.5)};
}

/// MMR1's variance-aware sampling: `share` of the batch proportional to the variance-promotion score of the last
/// refresh, the rest uniform. Refreshing is the caller's: roll out every prompt each T steps and observe it. Drawn
/// without replacement; diversity grows with difference, as the paper says (its code adds a similarity).
/// Source: MMR1 (arXiv 2509.21268, algorithm 1).
using mmr1_selector = pool_selector<moving_gain_tracker<gain_promotion>, tracked_value, draw_mixed<draw_proportional>>;
inline mmr1_selector make_mmr1(std::size_t pool, double share = 0.5, gain_promotion score = {}) {
  return mmr1_selector(moving_gain_tracker<gain_promotion>(pool, 1, 0, score), {}, {.share = share});
}

/// The standard deviation of a prompt's pass rates over its last visits: 1-shot RLVR's historical variance score. Prompts
/// never visited score 0. Source: arXiv 2504.20571, over all epochs of a run on the whole pool.
struct reward_deviation {
  static constexpr std::string_view state_name = "reward_deviation";
  double operator()(const reward_belief& b, const pool_clock&) const { return vector_sqrt(b.variance); }
};
using historical_variance_selector = pool_selector<window_reward_tracker, reward_deviation>;
inline historical_variance_selector make_historical_variance(std::size_t pool, std::size_t window) {
  return historical_variance_selector(window_reward_tracker(pool, window));
}

/// LILO: of freshly screened candidates those of the largest p (1 - p): observe the screening, then select from them.
/// Source: arXiv 2502.12272, 4 or 8 candidates for each prompt of the batch and 8 attempts.
using learnability_selector = pool_selector<moving_gain_tracker<gain_of_rate<rate_variance>>, tracked_value, draw_top>;
inline learnability_selector make_learnability(std::size_t pool) {
  return learnability_selector(moving_gain_tracker<gain_of_rate<rate_variance>>(pool));
}

/// The largest entropy of the answers at the last visit; prompts never visited have 1. Source: output disagreement as
/// the predictor of gain, SGAC (arXiv 2605.01823, abstract).
using entropy_selector = pool_selector<moving_gain_tracker<gain_entropy>, tracked_value, draw_top, keep_mixed>;
inline entropy_selector make_entropy(std::size_t pool, double weight = 1) {
  return entropy_selector(moving_gain_tracker<gain_entropy>(pool, weight, 1));
}

/// DOTS: prompts whose predicted pass rate is near the target, softmax(-|p - target| / temperature) without replacement.
/// Source: arXiv 2506.05316.
using difficulty_selector = pool_selector<predicted_rates, near_target, draw_softmax>;
inline difficulty_selector make_difficulty(std::size_t pool, double target = 0.5, double temperature = 1e-3) {
  return difficulty_selector(predicted_rates(pool), {target}, {temperature});
}

/// Kimi k1.5's prioritised sampling: proportional to 1 - s, s the success rate so far, plus a floor (the paper has
/// none, which never returns to a solved prompt). A prompt never visited has s = 0, by 1e-9 failures before all others.
/// Source: arXiv 2501.12599, section 2.3.4.
using failure_selector = pool_selector<beta_tracker<>, expected<rate_failure>, draw_proportional>;
inline failure_selector make_failure(std::size_t pool, double floor = 0.05) {
  return failure_selector(beta_tracker<>(pool, {.prior_alpha = 0, .prior_beta = 1e-9}), {{floor}});
}

/// Kimi k1.5's curriculum: all prompts alike until step `warm_up`, and from then on those of at least `hard_from` first.
/// Source: Kimi k1.5 (arXiv 2501.12599), section 2.3.4 and figure 9.
struct curriculum {
  static constexpr std::string_view state_name = "curriculum";
  std::uint64_t warm_up = 0;
  double hard_from = 0.5;
  double operator()(double easiness, const pool_clock& now) const {
    return now.step >= warm_up && 1 - easiness >= hard_from ? 1 : 0;
  }
};

using curriculum_selector = pool_selector<predicted_rates, curriculum, draw_top>;
/// difficulties[i] in [0, 1] is the label of prompt i. Throws std::invalid_argument for one outside.
inline curriculum_selector make_curriculum(std::span<const double> difficulties, curriculum schedule) {
  std::vector<double> easiness(difficulties.size());
  for (std::size_t i = 0; i < easiness.size(); ++i) {
    require(difficulties[i] >= 0 && difficulties[i] <= 1, "make_curriculum: difficulty ", i, " is ", difficulties[i]);
    easiness[i] = 1 - difficulties[i];
  }
  predicted_rates labels(easiness.size(), measured_rate::is_ignored);
  labels.predict(easiness);
  return curriculum_selector(std::move(labels), schedule);
}

/// Of pass rates as believed, pairs of hard-but-solvable and easy-but-brittle prompts. A prompt never visited has rate 0
/// and comes last: screen the pool first.
struct believed_rate {
  static constexpr std::string_view state_name = "believed_rate";
  double operator()(const reward_belief& b, const pool_clock&) const { return b.mean; }
};
using pair_selector = pool_selector<moving_reward_tracker, believed_rate, draw_pairs, keep_mixed>;
inline pair_selector make_pairs(std::size_t pool, double weight = 0.5) {
  return pair_selector(moving_reward_tracker(pool, weight));
}

}  // namespace rlvr
