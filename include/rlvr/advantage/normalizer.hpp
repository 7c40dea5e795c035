#pragma once
/// The normaliser with explicit moments, of which centred, group_normalized and their relatives are presets.

#include <cstddef>
#include <span>
#include <vector>

#include <rlvr/advantage/advantage_estimator.hpp>
#include <rlvr/advantage/deviation.hpp>
#include <rlvr/advantage/whitening.hpp>

namespace rlvr {

/// Over which scored rollouts a moment is taken. tokens: over the batch, each rollout counted once per token.
enum class moment_scope { none, group, leave_one_out, batch, tokens };

/// Which values a deviation over the batch is of: the rewards themselves, or what is left after the baseline.
enum class deviation_of { rewards, centred };

/// What becomes of rollouts whose deviation is zero, all compared rewards being equal: their advantages are 0, or the
/// centred rewards, not divided. Differs only where the baseline is not the mean of the same rewards: the only right
/// rollout of a group under leave_one_out, or rewards that are not centred at all.
enum class zero_variance { zero, unscaled };

/// A_i = (R_i - baseline_i) / deviation_i, with every choice explicit. Models advantage_estimator.
///
///     baseline   none: 0    group: mean(R) of the group    leave_one_out: mean of the group's other rollouts
///                batch: mean over the batch
///     spread     none: 1    group: deviation of the group's R    leave_one_out: of the group's other rollouts' R
///                batch: of all R, or of all R_i - baseline_i (deviation_of)
///                tokens: R - baseline is whitened (whitening.hpp), its own mean over tokens subtracted once more
///
/// tokens needs the number of tokens of each rollout: the three-argument call. There, rollouts of a constant or lone
/// group enter the statistics with 0 and are moved like all others, as in verl, OpenRLHF and NeMo-RL. Baseline none
/// keeps rewards as they are: no shift invariance and no zeros for equal rewards; with baseline batch both hold for
/// the batch, not for each group. A lone rollout that keeps its reward has baseline 0 and, for spread group or
/// leave_one_out, variance 1, as in verl.
///
/// Throws as the concept says; std::invalid_argument also for an impossible deviation, baseline tokens, a spread of
/// tokens without counts or with as many as there are no rollouts. Two passes per moment, float64; leave-one-out
/// variances by merging the moments of what stands before and behind, without subtraction. O(B).
///
/// | preset | baseline | spread | deviation |
/// |---|---|---|---|
/// | `group_normalized` (GRPO) | group | group | per trainer |
/// | `centred` (Dr. GRPO) | group | none | |
/// | `centred{leave_one_out}` (RLOO) | leave_one_out | none | |
/// | `leave_one_out_normalized()` (NeMo-RL GRPO) | leave_one_out | leave_one_out | 1, 1e-6, unscaled |
/// | `batch_normalized()` (TRL "batch", Lite PPO) | group | batch, of rewards | 1, 1e-4 |
/// | `batch_normalized(deviation_of::centred)` (ROLL) | group | batch, of centred | 1, 1e-6 |
/// | `token_whitened()` (REINFORCE++-baseline) | group | tokens | 1, 1e-8, beside_variance |
struct normalizer {
  moment_scope baseline = moment_scope::group;
  moment_scope spread = moment_scope::group;
  deviation_of of = deviation_of::centred;
  rlvr::deviation deviation = {};
  zero_variance constant = zero_variance::zero;
  lone_rollout lone = lone_rollout::zero;

  std::vector<double> operator()(std::span<const verdict> verdicts, const groups& g) const {
    require(spread != moment_scope::tokens,
            "normalizer: spread over tokens needs the number of tokens of each rollout");
    return normalize(verdicts, g, {});
  }

  std::vector<double> operator()(std::span<const verdict> verdicts, const groups& g,
                                 std::span<const std::size_t> token_counts) const {
    require(token_counts.size() == verdicts.size(), "normalizer: ", token_counts.size(), " token counts for ",
            verdicts.size(), " verdicts");
    return normalize(verdicts, g, token_counts);
  }

 private:
  std::vector<double> normalize(std::span<const verdict> verdicts, const groups& g,
                                std::span<const std::size_t> token_counts) const {
    deviation.check("normalizer");
    require(baseline != moment_scope::tokens, "normalizer: there is no baseline over tokens");
    check_verdicts(verdicts, g);  // before a moment over the batch meets what is not finite
    moments all;
    if (baseline == moment_scope::batch || (spread == moment_scope::batch && of == deviation_of::rewards))
      all = batch_moments(verdicts, [&](std::size_t i) { return verdicts[i].reward; });
    std::vector<moments> others;
    std::vector<double> out = detail::by_group(
        verdicts, g,
        [&](const detail::scored_group& one, std::span<double> advantages) { group(one, all, others, advantages); });
    if (spread == moment_scope::batch) {
      if (of == deviation_of::centred) all = batch_moments(verdicts, [&](std::size_t i) { return out[i]; });
      const double factor = factor_of(all);
      for (double& a : out) a *= factor;
    }
    if (spread == moment_scope::tokens) {
      std::vector<std::size_t> weights(token_counts.begin(), token_counts.end());
      for (std::size_t i = 0; i < weights.size(); ++i)
        if (!verdicts[i].scored) weights[i] = 0;
      whiten(std::span<double>(out), std::span<const std::size_t>(weights), deviation);
    }
    return out;
  }

  double factor_of(const moments& m) const {
    if (m.variance(deviation.ddof) == 0) return constant == zero_variance::unscaled ? 1.0 : 0.0;
    return deviation.factor(m);
  }

  template <class Value>
  static moments batch_moments(std::span<const verdict> verdicts, Value value) {
    std::vector<double> known;
    known.reserve(verdicts.size());
    for (std::size_t i = 0; i < verdicts.size(); ++i)
      if (verdicts[i].scored) known.push_back(value(i));
    return moments_of(known);
  }

  void group(const detail::scored_group& one, const moments& all, std::vector<moments>& others,
             std::span<double> out) const {
    const std::size_t n = one.rewards.size();
    const bool within = baseline == moment_scope::group || baseline == moment_scope::leave_one_out;
    if (n == 1 && within) {
      if (lone == lone_rollout::zero) return;
      const bool scaled = spread == moment_scope::group || spread == moment_scope::leave_one_out;
      out[0] = one.rewards[0] / (scaled ? deviation.scale(1.0) : 1.0);
      return;
    }
    if (!one.differ && within) return;
    const moments m = moments_of(one.rewards);
    const double base = within ? m.mean : baseline == moment_scope::batch ? all.mean : 0.0;
    const double count = static_cast<double>(n);
    const double less_self = baseline == moment_scope::leave_one_out ? count / (count - 1) : 1.0;
    if (spread == moment_scope::leave_one_out) {
      others_of(one.rewards, others);
      for (std::size_t i = 0; i < n; ++i) out[i] = less_self * factor_of(others[i]) * (one.rewards[i] - base);
    } else {
      const double factor = less_self * (spread == moment_scope::group ? factor_of(m) : 1.0);
      for (std::size_t i = 0; i < n; ++i) out[i] = factor * (one.rewards[i] - base);
    }
  }

  /// others[i] <- the moments of all x but x[i].
  static void others_of(std::span<const double> x, std::vector<moments>& others) {
    others.assign(x.size(), moments{});
    moments before, behind;
    for (std::size_t i = 0; i < x.size(); before.add(x[i++])) others[i] = before;
    for (std::size_t i = x.size(); i-- > 0; behind.add(x[i])) others[i].merge(behind);
  }
};

/// NeMo-RL's default GRPO: the mean and the deviation of the group's other rollouts; a rollout whose others are all
/// equal keeps R - baseline undivided, so that a group need not sum to zero. Source: NeMo-RL GRPOAdvantageEstimator.
inline normalizer leave_one_out_normalized(double epsilon = 1e-6) {
  return {.baseline = moment_scope::leave_one_out,
          .spread = moment_scope::leave_one_out,
          .deviation = {.epsilon = epsilon},
          .constant = zero_variance::unscaled};
}

/// The group's mean, the batch's deviation: of raw rewards with epsilon 1e-4 as in TRL's scale_rewards="batch", or of
/// centred rewards with epsilon 1e-6 as in ROLL. Source: Lite PPO (Liu et al. 2025, arXiv 2508.08221).
inline normalizer batch_normalized(deviation_of of = deviation_of::rewards) {
  return {.spread = moment_scope::batch, .of = of, .deviation = {.epsilon = of == deviation_of::rewards ? 1e-4 : 1e-6}};
}

/// REINFORCE++-baseline: the group's mean, then whitening over the batch's tokens. verl's constants; OpenRLHF and
/// NeMo-RL have {.ddof = 0, .place = epsilon_place::variance_floor}. Source: Hu 2025, arXiv 2501.03262.
inline normalizer token_whitened(const deviation& d = {.epsilon = 1e-8, .place = epsilon_place::beside_variance}) {
  return {.spread = moment_scope::tokens, .deviation = d};
}

}  // namespace rlvr
