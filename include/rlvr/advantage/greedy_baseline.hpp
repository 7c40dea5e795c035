#pragma once
/// Reward minus the reward of the greedy completion.

#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

#include <rlvr/advantage/advantage_estimator.hpp>
#include <rlvr/advantage/token_rewards.hpp>

namespace rlvr {

/// A_i = R_i - R(greedy completion of the group's prompt): `greedy` holds one verdict per group. [B].
///
/// Unbiased with a single rollout per prompt, as the greedy completion does not depend on it. Unscored rollouts get 0,
/// and so do all rollouts of a group whose greedy completion could not be scored. Equal rewards do not give zeros
/// unless the greedy one equals them. Invariant to a shift of all rewards, the greedy one's included. Throws
/// std::invalid_argument for groups that do not fit, and a reward that is not finite, naming its index. O(B).
/// Source: ReMax (Li et al. 2023, arXiv 2310.10505).
inline std::vector<double> greedy_baseline(std::span<const verdict> verdicts, const groups& g,
                                           std::span<const verdict> greedy) {
  require(greedy.size() == g.size(), "greedy_baseline: ", greedy.size(), " greedy verdicts for ", g.size(), " groups");
  for (std::size_t i = 0; i < greedy.size(); ++i)
    require(!greedy[i].scored || std::isfinite(greedy[i].reward), "greedy_baseline: greedy reward ", i, " is ",
            greedy[i].reward);
  return detail::by_group(verdicts, g, [&](const detail::scored_group& one, std::span<double> out) {
    if (!greedy[one.index].scored) return;
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = one.rewards[i] - greedy[one.index].reward;
  });
}

/// A_t = G_t - baseline_i on active tokens, 0 on others, G_t the undiscounted return: ReMax for rewards per token. [T]
/// for [T] rewards and [B] baselines. Throws as discounted_returns does, and std::invalid_argument for baselines that
/// do not fit or are not finite, and for an advantage that overflows. O(T). Source: verl
/// compute_remax_outcome_advantage.
inline std::vector<double> returns_above(std::span<const double> rewards, std::span<const double> baselines,
                                         const token_layout& layout) {
  std::vector<double> out = discounted_returns(rewards, layout);
  require(baselines.size() == layout.size(), "returns_above: ", baselines.size(), " baselines for ", layout.size(),
          " rollouts");
  for (std::size_t i = 0; i < layout.size(); ++i) {
    require(std::isfinite(baselines[i]), "returns_above: baseline ", i, " is ", baselines[i]);
    for (std::size_t t = layout.offsets[i]; t < layout.offsets[i + 1]; ++t)
      if (layout.active(t)) out[t] -= baselines[i];
  }
  detail::check_finite("returns_above", "advantage", out);
  return out;
}

}  // namespace rlvr
