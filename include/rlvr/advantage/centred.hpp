#pragma once
/// Reward minus the group's mean.

#include <span>
#include <vector>

#include <rlvr/advantage/advantage_estimator.hpp>

namespace rlvr {

/// What a reward is compared with: the mean of its whole group, or of the other rollouts of the group.
enum class baseline { group_mean, leave_one_out };

/// A_i = R_i - mean(R), or with leave_one_out A_i = R_i - mean_{j != i}(R_j) = n/(n-1) (R_i - mean(R)), over the n
/// scored rollouts of the group. Models advantage_estimator.
///
/// The default is the one-shot recipe's: dividing by the deviation is neutral to slightly worse there. Advantages of a
/// group sum to zero. O(B). Source: group_mean is Dr. GRPO (Liu et al. 2025, arXiv 2503.20783); leave_one_out is RLOO
/// (Ahmadian et al. 2024, arXiv 2402.14740).
struct centred {
  baseline against = baseline::group_mean;
  lone_rollout lone = lone_rollout::zero;

  std::vector<double> operator()(std::span<const verdict> verdicts, const groups& g) const {
    return detail::centred_advantages(verdicts, g, detail::scale_of{[this](const moments& m) {
                                        const double n = static_cast<double>(m.count);
                                        return against == baseline::leave_one_out ? n / (n - 1) : 1.0;
                                      }},
                                      [this](double reward) { return lone == lone_rollout::reward ? reward : 0.0; });
  }
};

}  // namespace rlvr
