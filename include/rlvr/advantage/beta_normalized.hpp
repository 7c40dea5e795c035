#pragma once
/// Reward minus the group's mean, over the density of such means in the batch.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

#include <rlvr/advantage/advantage_estimator.hpp>

namespace rlvr {

/// A_i = (R_i - p) / f(p; alpha, beta), p the mean reward of the scored rollouts of the group, f a Beta density fitted
/// to the means of all groups, for rewards in [0, 1]. Models advantage_estimator.
///
/// With mu and v (ddof 1) the mean and variance of the groups' p:
///
///     c = mu (1 - mu) / v - 1       alpha = max(1 + c mu / 3, 1)       beta = max(1 + c (1 - mu) / 3, 1)
///
/// 1/f is at most 1e6. When all groups have the same mean up to rounding (v <= 1e-24), or there is but one, v says
/// nothing: alpha = beta = 1 and A = R - p (the authors' code divides by zero in the first case). c is at most 1e9, so
/// that the density of nearly equal means stays computable to six digits. Sums to zero in each group. Rewards have a
/// meaning in [0, 1]: no invariance to shift or scale. Groups know of each other. A lone rollout gets 0.
///
/// Several reward components: the mean of the advantages of each (component_normalized composes). Not TRL's loss type
/// "bnpo", which is a token average. Throws std::invalid_argument also for a scored reward outside [0, 1], naming its
/// index. O(B). Source: BNPO (Xiao et al. 2025, arXiv 2506.02864); changyi7231/BNPO.
struct beta_normalized {
  std::vector<double> operator()(std::span<const verdict> verdicts, const groups& g) const {
    detail::check_groups(verdicts.size(), g);
    for (std::size_t i = 0; i < verdicts.size(); ++i)
      require(!verdicts[i].scored || (verdicts[i].reward >= 0 && verdicts[i].reward <= 1) ||
                  !std::isfinite(verdicts[i].reward),
              "beta_normalized: reward ", i, " is ", verdicts[i].reward, ", expected between 0 and 1");
    std::vector<double> known, mean_of(g.size());
    std::vector<double> out = detail::by_group(verdicts, g, [&](const detail::scored_group& one, std::span<double> a) {
      const double p = mean_of[one.index] = moments_of(one.rewards).mean;
      known.push_back(p);
      if (one.differ)
        for (std::size_t i = 0; i < a.size(); ++i) a[i] = one.rewards[i] - p;
    });
    const moments m = moments_of(known);
    const double v = m.variance();
    if (!(v > 1e-24)) return out;
    const double c = std::min(m.mean * (1 - m.mean) / v - 1, 1e9);
    const double alpha = std::max(1 + c * m.mean / 3, 1.0), beta = std::max(1 + c * (1 - m.mean) / 3, 1.0);
    for (std::size_t group = 0; group < g.size(); ++group) {
      const double weight = inverse_density(mean_of[group], alpha, beta);
      for (std::size_t i = g.begin(group); i < g.end(group); ++i) out[i] *= weight;
    }
    return out;
  }

  /// min(1 / f(p; alpha, beta), 1e6) for alpha, beta >= 1 and p in [0, 1]. O(1).
  static double inverse_density(double p, double alpha, double beta) {
    double log_inverse = std::lgamma(alpha) + std::lgamma(beta) - std::lgamma(alpha + beta);
    if (alpha > 1) log_inverse -= (alpha - 1) * std::log(p);
    if (beta > 1) log_inverse -= (beta - 1) * std::log1p(-p);
    return std::min(std::exp(log_inverse), 1e6);
  }
};

}  // namespace rlvr
