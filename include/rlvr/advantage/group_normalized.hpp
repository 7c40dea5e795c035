#pragma once
/// Reward minus the group's mean, over the group's deviation.

#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

#include <rlvr/advantage/advantage_estimator.hpp>

namespace rlvr {

/// A_i = (R_i - mean(R)) / (deviation(R) + epsilon) over the scored rollouts of the group. Models
/// advantage_estimator.
///
/// The deviation divides by n - ddof. ddof 1 and epsilon 1e-6 are verl's; TRL has epsilon 1e-4, OpenRLHF
/// 1e-9. A lone rollout that keeps its reward gets R / (1 + epsilon), as in verl. Throws
/// std::invalid_argument also for ddof above 1 and epsilon negative or not finite. O(B). Source: GRPO (Shao
/// et al. 2024, arXiv 2402.03300, section 4.1).
struct group_normalized {
  std::size_t ddof = 1;
  double epsilon = 1e-6;
  lone_rollout lone = lone_rollout::zero;

  std::vector<double> operator()(std::span<const verdict> verdicts, const groups& g) const {
    require(ddof <= 1, "group_normalized: ddof is ", ddof, ", expected 0 or 1");
    require(epsilon >= 0 && std::isfinite(epsilon), "group_normalized: epsilon is ", epsilon);
    return detail::centred_advantages(
        verdicts, g, [this](const moments& m) {
          const double scale = m.deviation(ddof) + epsilon;
          return scale > 0 ? 1.0 / scale : 0.0;  // squares of tiny differences underflow
        },
        [this](double reward) { return lone == lone_rollout::reward ? reward / (1.0 + epsilon) : 0.0; });
  }
};

}  // namespace rlvr
