#pragma once
/// Advantages from the order of rewards alone.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

#include <rlvr/advantage/advantage_estimator.hpp>

namespace rlvr {

/// Which rank has advantage 0: the mean one (better than average is encouraged), or the best one (nothing is
/// encouraged, and being less wrong is discouraged less).
enum class rank_zero { mean, best };

/// A_i = weight (s_i - zero), s_i = 1 - (rank_i - 1) / (n - 1) in [0, 1], rank 1 for the highest of the n scored
/// rewards of the group, equal rewards sharing the mean of their ranks. Models advantage_estimator.
///
/// No advantage depends on how far rewards are apart: invariant to every increasing map of them. With rank_zero::mean a
/// group sums to zero; with rank_zero::best no advantage is positive, which is what a group without any right answer
/// asks for: graded failures are told apart and none is reinforced. By itself this estimator does not look at
/// correctness: by_outcome gives it the groups that failed. Equal rewards give exact zeros, a lone rollout 0. Throws
/// std::invalid_argument also for a weight that is not finite. O(B log n).
/// Source: ranks as in Wilcoxon 1945; no trainer ships this one. That failures must not gain: CoRPO (Garg et al. 2025,
/// arXiv 2511.04439).
struct rank_based {
  rank_zero zero = rank_zero::mean;
  double weight = 1.0;

  std::vector<double> operator()(std::span<const verdict> verdicts, const groups& g) const {
    require(std::isfinite(weight), "rank_based: weight is ", weight);
    std::vector<std::size_t> order;
    return detail::by_group(verdicts, g, [&](const detail::scored_group& one, std::span<double> out) {
      if (!one.differ) return;
      const std::size_t n = one.rewards.size();
      order.resize(n);
      for (std::size_t i = 0; i < n; ++i) order[i] = i;
      std::sort(order.begin(), order.end(),
                [&](std::size_t a, std::size_t b) { return one.rewards[a] > one.rewards[b]; });
      double best = 0;
      for (std::size_t begin = 0, end; begin < n; begin = end) {
        for (end = begin + 1; end < n && one.rewards[order[end]] == one.rewards[order[begin]];) ++end;
        const double below = static_cast<double>(begin + end - 1) / (2 * static_cast<double>(n - 1));  // 1 - s
        if (begin == 0) best = below;
        for (std::size_t i = begin; i < end; ++i)
          out[order[i]] = weight * ((zero == rank_zero::best ? best : 0.5) - below);
      }
    });
  }
};

}  // namespace rlvr
