#pragma once
/// Reward minus the group's length-weighted mean.

#include <cstddef>
#include <span>
#include <vector>

#include <rlvr/advantage/advantage_estimator.hpp>

namespace rlvr {

/// A_i = R_i - sum_j n_j R_j / sum_j n_j over the scored rollouts of the group, n_j the number of tokens of rollout j.
///
/// The baseline of least variance when the squared gradient of a rollout grows like its length. Advantages of a group
/// sum to zero weighted by length. Equal rewards, and groups without any token, give exact zeros; a lone rollout gets
/// 0, or its reward as in verl. token_counts is [B]. Throws as advantage_estimator says, and std::invalid_argument for
/// a token count too few or many. O(B). Source: OPO (Hao et al. 2025, arXiv 2505.23585); verl
/// compute_opo_outcome_advantage.
struct length_weighted {
  lone_rollout lone = lone_rollout::zero;

  std::vector<double> operator()(std::span<const verdict> verdicts, const groups& g,
                                 std::span<const std::size_t> token_counts) const {
    require(token_counts.size() == verdicts.size(), "length_weighted: ", token_counts.size(), " token counts for ",
            verdicts.size(), " verdicts");
    return detail::by_group(verdicts, g, [&](const detail::scored_group& one, std::span<double> out) {
      if (one.rewards.size() == 1 && lone == lone_rollout::reward) out[0] = one.rewards[0];
      if (!one.differ) return;
      const double origin = one.rewards[0];
      double tokens = 0, sum = 0;
      for (std::size_t i = g.begin(one.index), next = 0; i < g.end(one.index); ++i) {
        if (!verdicts[i].scored) continue;
        const double n = static_cast<double>(token_counts[i]);
        tokens += n;
        sum += n * (one.rewards[next++] - origin);
      }
      if (tokens == 0) return;
      const double base = origin + sum / tokens;
      for (std::size_t i = 0; i < out.size(); ++i) out[i] = one.rewards[i] - base;
    });
  }
};

}  // namespace rlvr
