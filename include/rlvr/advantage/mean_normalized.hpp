#pragma once
/// Reward minus the group's mean, over the mean.

#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

#include <rlvr/advantage/advantage_estimator.hpp>

namespace rlvr {

/// A_i = (R_i - mean(R)) / (mean(R) + epsilon) over the scored rollouts of the group, for rewards >= 0. Models
/// advantage_estimator.
///
/// With rewards of 0 and 1 this is the gradient of log(success rate): hard prompts weigh as in maximum likelihood. Not
/// invariant to a shift; invariant to scale but for epsilon; sums to zero in each group. A lone rollout gets 0, or its
/// reward undivided as in SkyRL. Throws std::invalid_argument also for a scored reward below 0, naming its index, and
/// for epsilon negative or not finite. O(B).
/// Source: MaxRL (Tajwar et al. 2026, arXiv 2602.02710); SkyRL compute_maxrl_advantage.
struct mean_normalized {
  double epsilon = 1e-6;
  lone_rollout lone = lone_rollout::zero;

  std::vector<double> operator()(std::span<const verdict> verdicts, const groups& g) const {
    require(epsilon >= 0 && std::isfinite(epsilon), "mean_normalized: epsilon is ", epsilon);
    for (std::size_t i = 0; i < verdicts.size(); ++i)
      require(!(verdicts[i].scored && verdicts[i].reward < 0), "mean_normalized: reward ", i, " is ",
              verdicts[i].reward, ", expected at least 0");
    return detail::centred_advantages(verdicts, g,
                                      detail::scale_of{[this](const moments& m) { return 1 / (m.mean + epsilon); }},
                                      [this](double reward) { return lone == lone_rollout::reward ? reward : 0.0; });
  }
};

}  // namespace rlvr
