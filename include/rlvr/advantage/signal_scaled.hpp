#pragma once
/// Centred rewards, scaled up by how little of the batch carries a signal.

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

#include <rlvr/advantage/advantage_estimator.hpp>

namespace rlvr {

/// What counts as a rollout with a signal: a reward other than zero, or membership in a group whose rewards differ.
enum class signal_kind { nonzero_reward, informative_group };

/// A_i = alpha (R_i - mean(R)) / divisor, alpha = (scored rollouts of the batch) / (those with a signal).
///
/// Rollouts without a signal add nothing to the gradient but count in its mean; alpha undoes that. The two meanings of
/// "signal" give different numbers: nonzero_reward is verl's (alpha = B / max(1, count of R != 0)), informative_group
/// the authors' (1 / (share + 1e-5), share <= 1 the share of rollouts in groups whose rewards differ). With
/// nonzero_reward a shift of the rewards changes alpha; otherwise, and up to alpha, the advantages are `centred`'s:
/// they sum to zero in each group. A lone rollout gets 0, or alpha R / divisor as in verl. Models advantage_estimator.
/// Throws std::invalid_argument also for a divisor that is zero or not finite. O(B). Source: GPG (Chu et al. 2025,
/// arXiv 2504.02546); verl compute_gpg_outcome_advantage (divisor = f_norm); AMAP-ML/GPG.
struct signal_scaled {
  signal_kind counted = signal_kind::nonzero_reward;
  double divisor = 1.0;
  lone_rollout lone = lone_rollout::zero;

  std::vector<double> operator()(std::span<const verdict> verdicts, const groups& g) const {
    require(divisor != 0 && std::isfinite(divisor), "signal_scaled: divisor is ", divisor);
    std::size_t scored = 0, informative = 0, nonzero = 0;
    std::vector<double> out = detail::by_group(verdicts, g, [&](const detail::scored_group& one, std::span<double> a) {
      scored += one.rewards.size();
      for (double r : one.rewards) nonzero += r != 0;
      if (one.rewards.size() == 1 && lone == lone_rollout::reward) a[0] = one.rewards[0];
      if (!one.differ) return;
      informative += one.rewards.size();
      const double mean = moments_of(one.rewards).mean;
      for (std::size_t i = 0; i < a.size(); ++i) a[i] = one.rewards[i] - mean;
    });
    const double total = static_cast<double>(std::max<std::size_t>(scored, 1));
    const double alpha = counted == signal_kind::nonzero_reward
                             ? total / static_cast<double>(std::max<std::size_t>(nonzero, 1))
                             : 1 / (static_cast<double>(informative) / total + 1e-5);
    for (double& a : out) a *= alpha / divisor;
    detail::check_finite("signal_scaled", "advantage", out);
    return out;
  }
};

}  // namespace rlvr
