#pragma once
/// Only the best rollout of a group learns, by how far it leads.

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

#include <rlvr/advantage/advantage_estimator.hpp>
#include <rlvr/advantage/deviation.hpp>

namespace rlvr {

/// A = R_(1) - R_(2), the best reward's lead over the second best, for the best rollout of the group, divided by the
/// group's deviation (+ epsilon) on request; 0 for all others, and for the best ones when they tie. Models
/// advantage_estimator.
///
/// The policy gradient of E[max of the group's rewards] with the leave-one-out baseline. Advantages are >= 0 and do not
/// sum to zero. A lone rollout gets 0; verl raises an error there. Throws as group_normalized does. O(B).
/// Source: Tang et al. 2025, arXiv 2503.19595; verl compute_grpo_passk_outcome_advantage.
struct top_gap {
  scaling scaled = scaling::deviation;
  rlvr::deviation deviation = {};

  std::vector<double> operator()(std::span<const verdict> verdicts, const groups& g) const {
    deviation.check("top_gap");
    return detail::by_group(verdicts, g, [&](const detail::scored_group& one, std::span<double> out) {
      if (!one.differ) return;
      const auto best =
          static_cast<std::size_t>(std::max_element(one.rewards.begin(), one.rewards.end()) - one.rewards.begin());
      double second = one.rewards[best == 0 ? 1 : 0];
      for (std::size_t i = 0; i < one.rewards.size(); ++i)
        if (i != best) second = std::max(second, one.rewards[i]);
      const double factor = scaled == scaling::deviation ? deviation.factor(moments_of(one.rewards)) : 1.0;
      out[best] = factor * (one.rewards[best] - second);
    });
  }
};

}  // namespace rlvr
