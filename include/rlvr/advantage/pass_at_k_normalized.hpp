#pragma once
/// The advantage of a rollout when groups of k are rewarded for one success.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

#include <rlvr/advantage/advantage_estimator.hpp>

namespace rlvr {

/// Each k-subset S of a group's n scored rollouts is rewarded 1 when any of its rollouts is correct; A_i is the mean of
/// (R_S - mean) / deviation over the subsets that contain i:
///
///     mean = 1 - C(w, k) / C(n, k)             deviation = sqrt(mean (1 - mean))      (w incorrect rollouts)
///     correct:   (1 - mean) / deviation        incorrect: (1 - mean - C(w-1, k-1) / C(n-1, k-1)) / deviation
///
/// Models advantage_estimator; correct means a reward above `correct_above`, all else about rewards is ignored: a shift
/// of rewards moves them across that threshold. Sums to zero in each group. Zeros where every subset is rewarded alike:
/// fewer than k incorrect rollouts, none correct, or a group of at most k. k = 1 is group_normalized with ddof 0 and
/// epsilon 0 on rewards of 0 and 1. Throws std::invalid_argument also for k = 0 and a threshold that is NaN. O(B k).
/// Source: Chen et al. 2025, "Pass@k Training", arXiv 2508.10751, the analytical form.
struct pass_at_k_normalized {
  std::size_t k = 4;
  double correct_above = 0.5;

  std::vector<double> operator()(std::span<const verdict> verdicts, const groups& g) const {
    require(k > 0, "pass_at_k_normalized: k is 0");
    require(!std::isnan(correct_above), "pass_at_k_normalized: correct_above is ", correct_above);
    return detail::by_group(verdicts, g, [&](const detail::scored_group& one, std::span<double> out) {
      const std::size_t n = one.rewards.size();
      std::size_t wrong = 0;
      for (double r : one.rewards) wrong += !(r > correct_above);
      if (wrong == n || wrong < k || n <= k) return;
      const double all_wrong = subset_share(n, wrong, k);
      if (!(all_wrong > 0)) return;  // underflow: advantages are below sqrt(all_wrong)
      const double others_wrong = subset_share(n - 1, wrong - 1, k - 1);
      const double deviation = std::sqrt((1 - all_wrong) * all_wrong);
      for (std::size_t i = 0; i < n; ++i)
        out[i] = (one.rewards[i] > correct_above ? all_wrong : all_wrong - others_wrong) / deviation;
    });
  }

 private:
  /// C(w, k) / C(n, k): the share of k-subsets of n that lie within w of them.
  static double subset_share(std::size_t n, std::size_t w, std::size_t k) {
    double share = 1;
    for (std::size_t i = 0; i < k; ++i) share *= static_cast<double>(w - i) / static_cast<double>(n - i);
    return share;
  }
};

}  // namespace rlvr
