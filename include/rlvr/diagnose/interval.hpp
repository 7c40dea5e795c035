#pragma once
/// Means with confidence intervals whose unit is the prompt, not the rollout.

#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <vector>

#include <rlvr/core/error.hpp>
#include <rlvr/core/groups.hpp>
#include <rlvr/core/moments.hpp>
#include <rlvr/core/verdict.hpp>
#include <rlvr/diagnose/student_t.hpp>

namespace rlvr {

/// A mean and its confidence interval [low, high].
struct interval {
  double mean = 0;
  double low = 0;
  double high = 0;
  friend bool operator==(const interval&, const interval&) = default;
};

/// The mean reward of each group, one group per prompt; NaN for a group without scored rollouts. Throws
/// std::invalid_argument when groups do not cover the verdicts or a scored reward is not finite. O(B).
inline std::vector<double> prompt_means(std::span<const verdict> verdicts, const groups& g) {
  require(g.total() == verdicts.size(), "prompt_means: groups of ", g.total(), " rollouts for ",
          verdicts.size(), " verdicts");
  std::vector<double> means;
  means.reserve(g.size());
  for (std::size_t group = 0; group < g.size(); ++group) {
    moments m;
    for (std::size_t i = g.begin(group); i < g.end(group); ++i) {
      if (!verdicts[i].scored) continue;
      require(std::isfinite(verdicts[i].reward), "prompt_means: reward ", i, " is ", verdicts[i].reward);
      m.add(verdicts[i].reward);
    }
    means.push_back(m.count > 0 ? m.mean : std::numeric_limits<double>::quiet_NaN());
  }
  return means;
}

/// mean +- t s / sqrt(n) over the n per-prompt values, s with n - 1, t the Student quantile of n - 1 degrees.
///
/// Rollouts of a prompt are not independent of each other, prompts are: so each prompt is one observation,
/// and every prompt weighs the same however many rollouts it has. NaN stands for a prompt that could not be
/// scored and is left out. One value has an interval from -infinity to infinity (nothing is known of the
/// spread); without any value all three are NaN; equal values have width 0. Throws std::invalid_argument for
/// an infinite value or a confidence outside (0, 1). O(n).
inline interval mean_interval(std::span<const double> per_prompt, double confidence = 0.95) {
  require(confidence > 0 && confidence < 1, "mean_interval: confidence is ", confidence);
  std::vector<double> known;
  known.reserve(per_prompt.size());
  for (std::size_t i = 0; i < per_prompt.size(); ++i) {
    require(!std::isinf(per_prompt[i]), "mean_interval: value ", i, " is infinite");
    if (!std::isnan(per_prompt[i])) known.push_back(per_prompt[i]);
  }
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  constexpr double infinity = std::numeric_limits<double>::infinity();
  if (known.empty()) return {nan, nan, nan};
  const moments m = moments_of(known);
  if (known.size() == 1) return {m.mean, -infinity, infinity};
  const double n = static_cast<double>(known.size());
  const double half = student_t_quantile(known.size() - 1, confidence) * m.deviation() / std::sqrt(n);
  return {m.mean, m.mean - half, m.mean + half};
}

/// The interval of the mean of after[i] - before[i], prompt by prompt. Far narrower than the difference of
/// two intervals when both used the same prompts, and narrower still with common random numbers. A prompt
/// that is NaN on either side is left out. Throws std::invalid_argument when sizes differ, and as
/// mean_interval does. O(n).
inline interval difference_interval(std::span<const double> before, std::span<const double> after,
                                    double confidence = 0.95) {
  require(before.size() == after.size(), "difference_interval: ", before.size(), " values before, ",
          after.size(), " after");
  std::vector<double> differences(before.size());
  for (std::size_t i = 0; i < before.size(); ++i) {
    require(!std::isinf(before[i]) && !std::isinf(after[i]), "difference_interval: value ", i,
            " is infinite");
    differences[i] = after[i] - before[i];
  }
  return mean_interval(differences, confidence);
}

}  // namespace rlvr
