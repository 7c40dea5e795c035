#pragma once
/// A perfect rollout that nobody sampled, in every group.

#include <cstddef>
#include <span>
#include <vector>

#include <rlvr/advantage/advantage_estimator.hpp>
#include <rlvr/advantage/deviation.hpp>

namespace rlvr {

/// A_i = (R_i - mean) / (deviation + epsilon) over the n scored rollouts of the group and one more of reward `reward`,
/// which gets no advantage itself. Models advantage_estimator.
///
/// A group that failed throughout gets negative advantages instead of none; one that succeeded throughout (all rewards
/// equal to `reward`) gets exact zeros. So equal rewards do not give zeros elsewhere, and a lone rollout has something
/// to compare with: it is treated like any group. Advantages of a group sum to something negative while rewards are
/// below `reward`. No shift invariance. Throws std::invalid_argument also for a reward that is not finite and as
/// group_normalized does. O(B).
/// Source: NGRPO (Nan et al. 2025, arXiv 2509.18851), the advantage; its clipping (0.16, 0.24) is the objective's.
struct virtual_reward {
  double reward = 1.0;
  rlvr::deviation deviation = {};

  std::vector<double> operator()(std::span<const verdict> verdicts, const groups& g) const {
    deviation.check("virtual_reward");
    require(std::isfinite(reward), "virtual_reward: reward is ", reward);
    std::vector<double> with;
    return detail::by_group(verdicts, g, [&](const detail::scored_group& one, std::span<double> out) {
      if (!one.differ && one.rewards[0] == reward) return;
      with.assign(one.rewards.begin(), one.rewards.end());
      with.push_back(reward);
      const moments m = moments_of(with);
      const double factor = deviation.factor(m);
      for (std::size_t i = 0; i < out.size(); ++i) out[i] = factor * (one.rewards[i] - m.mean);
    });
  }
};

}  // namespace rlvr
