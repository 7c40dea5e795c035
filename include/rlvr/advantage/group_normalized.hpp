#pragma once
/// Reward minus the group's mean, over the group's deviation.

#include <cstddef>
#include <span>
#include <vector>

#include <rlvr/advantage/advantage_estimator.hpp>
#include <rlvr/advantage/deviation.hpp>

namespace rlvr {

/// A_i = (R_i - mean(R)) / (deviation(R) + epsilon) over the scored rollouts of the group. Models advantage_estimator.
///
/// The deviation divides by n - ddof. ddof 1 and epsilon 1e-6 are verl's; TRL has epsilon 1e-4, OpenRLHF 1e-9. A lone
/// rollout that keeps its reward gets R / (1 + epsilon), as in verl. The same numbers as normalizer's with scope group.
/// Advantages of a group sum to zero. Throws std::invalid_argument also for ddof above 1 and epsilon negative or not
/// finite. O(B). Source: GRPO (Shao et al. 2024, arXiv 2402.03300, section 4.1).
struct group_normalized {
  std::size_t ddof = 1;
  double epsilon = 1e-6;
  lone_rollout lone = lone_rollout::zero;

  std::vector<double> operator()(std::span<const verdict> verdicts, const groups& g) const {
    const deviation d{.ddof = ddof, .epsilon = epsilon};
    d.check("group_normalized");
    return detail::centred_advantages(verdicts, g, by_deviation{d}, [&](double reward) {
      return lone == lone_rollout::reward ? reward / d.scale(1.0) : 0.0;
    });
  }

 private:
  struct by_deviation {
    const deviation& d;
    double operator()(const moments& m) const { return d.factor(m); }
    void operator()(std::size_t n, const double*, const double* squares, double* factors) const {
      d.factors<detail::group_lanes>(n, squares, factors);
    }
  };
};

}  // namespace rlvr
